"""The GPU benchmark: K trainings batched as one are K trainings, and it ends with one JSON line."""

import copy
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from torch import Tensor

from benchmarks import gpu, scaling, stacked_ppo, stacked_sac
from benchmarks.training import make_market
from optimize.agents.spec import NETS
from tests.optimize.agents.compiled.off_policy_support import gather_steps, make_off_policy
from tests.optimize.agents.compiled.support import collect, make_model


def furthest(stacked: Tensor, separate: list[list[Tensor]]) -> float:
    """Return the largest difference between K rows of parameters and K networks' own."""
    rows = torch.stack([torch.cat([each.detach().flatten() for each in one]) for one in separate])
    return float((stacked - rows).abs().max())


def transposed(network: torch.nn.Module) -> list[Tensor]:
    """Return the parameters of a network as a stack has them."""
    return [each.T if each.ndim == 2 else each for each in network.parameters()]


def ppo_models() -> list[Any]:
    trials: list[dict[str, Any]] = [
        {"learning_rate": 0.003, "ent_coef": 0.0, "clip_range": 0.2, "max_grad_norm": 0.5},
        {"learning_rate": 0.001, "ent_coef": 0.05, "clip_range": 0.1, "max_grad_norm": 0.1},
        {"learning_rate": 0.0003, "ent_coef": 0.01, "clip_range": 0.3, "vf_coef": 0.9},
    ]
    models = [make_model(PPO, n_steps=16, batch_size=16, n_epochs=9, **trial) for trial in trials]
    for number, model in enumerate(models):
        torch.manual_seed(number)
        for parameter in model.policy.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return models


def test_stacked_ppo_is_k_trainings_of_sb3() -> None:
    models = ppo_models()
    policies = stacked_ppo.Policies([model.policy for model in models])
    settings = stacked_ppo.settings_of(models)
    for number in range(3):
        batches: list[list[tuple[Tensor, ...]]] = []
        for trial, model in enumerate(models):
            collect(model)
            np.random.seed(number + trial)  # noqa: NPY002 (SB3 draws from the global generator)
            buffer = copy.deepcopy(model.rollout_buffer)
            batches.append([each for _ in range(9) for each in buffer.get(16)])
            np.random.seed(number + trial)  # noqa: NPY002
            model._current_progress_remaining = 1.0
            model.train()
        for same in zip(*batches, strict=True):
            parts = [torch.stack(part) for part in zip(*same, strict=True)]
            batch = stacked_ppo.Batch(parts[0], parts[1], parts[3], parts[4], parts[5])
            policies.update(batch, settings)
        separate = [
            [
                *transposed(model.policy.mlp_extractor.policy_net),
                *transposed(model.policy.action_net),
                *transposed(model.policy.mlp_extractor.value_net),
                *transposed(model.policy.value_net),
                model.policy.log_std,
            ]
            for model in models
        ]
        assert furthest(policies.stack.matrix, separate) < 1e-5
    assert int(models[0].policy.optimizer.state_dict()["state"][0]["step"]) == 3 * 9 * 4


def test_stacked_sac_is_k_trainings_of_sb3() -> None:
    models = [make_off_policy(SAC, net=[16, 12], learning_rate=rate) for rate in (0.003, 0.001, 0.0003)]
    gather_steps(models[0], 60)
    for number, model in enumerate(models):
        model._current_progress_remaining = 1.0
        model.replay_buffer = models[0].replay_buffer
        torch.manual_seed(number)
        for parameter in model.policy.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    networks = stacked_sac.Networks(models)
    for update in range(100):
        batches, noises = [], []
        for trial, model in enumerate(models):
            np.random.seed(1000 * trial + update)  # noqa: NPY002 (SB3 draws from the global generator)
            batches.append(model.replay_buffer.sample(16))
            torch.manual_seed(1000 * trial + update)
            shape = batches[-1].actions.shape
            noises.append(
                torch.stack([torch.normal(torch.zeros(shape), torch.ones(shape)) for _ in range(2)])
            )
            np.random.seed(1000 * trial + update)  # noqa: NPY002
            torch.manual_seed(1000 * trial + update)
            model.train(1, 16)
        seen, action, following, done, reward = (
            torch.stack(each) for each in list(zip(*batches, strict=True))[:5]
        )
        batch = stacked_sac.Batch(seen, action, following, done[:, :, 0], reward[:, :, 0])
        networks.update(batch, torch.stack(noises, dim=1))
    actors = [
        transposed(torch.nn.Sequential(each.actor.latent_pi, each.actor.mu, each.actor.log_std))
        for each in models
    ]
    assert furthest(networks.actor.matrix, actors) < 1e-5
    assert furthest(networks.critics.matrix, [transposed(each.critic) for each in models]) < 1e-5
    assert furthest(networks.targets.matrix, [transposed(each.critic_target) for each in models]) < 1e-5
    assert furthest(networks.temperature.matrix, [[each.log_ent_coef] for each in models]) < 1e-5


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_stack_trains_on_the_environment(name: str) -> None:
    case = gpu.shrink(next(case for case in gpu.CASES if case.name == name))
    learner = gpu.make_stacked(case, make_market(case.lookback), "cpu", 3)
    stack = learner.policies.stack if name == "ppo" else learner.networks.actor
    before = stack.matrix.clone()
    gpu.advance_stacked(case, learner)
    assert torch.isfinite(stack.matrix).all()
    assert ((stack.matrix - before).abs().amax(dim=1) > 0).all()


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[list[str], dict[str, Any]]:
    """Run the benchmark as if there were no GPU; return what it says and its result."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main()
    *said, last = capsys.readouterr().out.splitlines()
    return said, json.loads(last)


def test_it_ends_with_one_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, result = run(monkeypatch, capsys, "--device", "cpu", "--tiny", "--only", "ppo_d33_h64")
    assert result["benchmark"] == "gpu"
    assert result["device"] == "cpu"
    found = result["cases"]["ppo_d33_h64"]
    assert set(found) == {"compiled, 1 core", "stock", "graphed", "stacked, K=2"}
    assert len(said) == len(found)
    for each in found.values():
        assert each["trials_per_minute"] > 0
        assert each["peak_mb"] is None
    assert found["stacked, K=2"]["trials"] == 2


def test_without_a_gpu_it_says_so_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, result = run(monkeypatch, capsys)
    assert said == ["no CUDA device here: nothing is measured; --device cpu shows it at small sizes"]
    assert result["cases"] == {}
    assert result["device"] is None
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--device", "cuda")
    assert "no CUDA device here" in capsys.readouterr().err


def test_the_workers_are_studies_on_the_first_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def study(*arguments: Any) -> tuple[float, float]:
        asked.append(arguments)
        return 12.0, 3.0

    monkeypatch.setattr(scaling, "study", study)
    _, result = run(monkeypatch, capsys, "--device", "cpu", "--quick", "--workers", "1", "8")
    assert asked == [
        (count, trials, 2048, "cpu", f"agent.engine={engine}")
        for engine in ("stock", "graphed")
        for count, trials in ((1, 4), (8, 16))
    ]
    assert set(result["workers"]) == {"stock, 1", "stock, 8", "graphed, 1", "graphed, 8"}
    assert result["workers"]["graphed, 8"] == {"trials_per_minute": 12.0, "device_mb": None, "seconds": 3}


def test_the_cases_have_the_observations_and_widths_that_their_keys_say() -> None:
    for case in gpu.CASES:
        width = NETS[case.net][0]
        assert case.key == f"{case.name}_d{case.observation}_h{width}"
    assert len(gpu.CASES) == 12
