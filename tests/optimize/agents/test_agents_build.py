"""Every key of the shipped YAML reaches the built model."""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from optimize.agents.budget import fit_to_budget
from optimize.agents.engines import local_engine
from optimize.agents.optimizers import decay_of
from optimize.agents.registry import ALGORITHMS, searchable_keys, unsearchable
from optimize.agents.sb3.build import build
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.agents.spec import AgentSpec, check_agent
from tests.optimize.agents.support import load_yaml, make_env, noise_market, shipped_spec

SPACE = [
    (name, key, domain) for name in ALGORITHMS for key, domain in load_yaml("space", name)["agent"].items()
]


def _values(domain: Any) -> list[Any]:
    return [domain["low"], domain["high"]] if isinstance(domain, dict) else list(domain)


def _with(spec: AgentSpec, key: str, value: Any) -> AgentSpec:
    if key in ("net", "activation", "weight_decay"):
        return replace(spec, **{key: value})
    return replace(spec, hyperparameters=spec.hyperparameters | {key: value})


def _build(spec: AgentSpec) -> BaseAlgorithm:
    env = make_env(noise_market(50), spec.name, num_envs=spec.n_envs, bars=10)
    return build(spec, SB3VecEnv(env), local_engine(spec), seed=0)


def _observable(model: BaseAlgorithm, key: str) -> Any:
    """Return the value in the built model that a key sets."""
    if key == "net":
        return [tuple(parameter.shape) for parameter in model.policy.parameters()]
    if key == "activation":
        return str(model.policy)
    if key == "learning_rate":
        return model.lr_schedule(1.0)
    if key == "weight_decay":
        return decay_of(getattr(model, "actor", model.policy).optimizer)
    value = getattr(model, key)
    return value(1.0) if callable(value) else value


def test_each_agent_has_an_agent_and_a_space_yaml() -> None:
    for name in ALGORITHMS:
        assert load_yaml("agent", name)["name"] == name
        assert load_yaml("space", name)["agent"]


@pytest.mark.parametrize(
    ("name", "key", "domain"), SPACE, ids=lambda value: value if str(value) == value else ""
)
def test_every_parameter_of_the_space_changes_the_model(name: str, key: str, domain: Any) -> None:
    assert key in searchable_keys(name)
    assert unsearchable(key) is None
    seen = []
    for value in _values(domain):
        spec = _with(shipped_spec(name), key, value)
        check_agent(spec)
        seen.append(_observable(_build(spec), key))
    assert len({str(value) for value in seen}) == len(seen)


@pytest.mark.parametrize(
    ("name", "key", "domain"), SPACE, ids=lambda value: value if str(value) == value else ""
)
def test_defaults_lie_inside_the_space(name: str, key: str, domain: Any) -> None:
    default = load_yaml("agent", name)[key]
    if isinstance(domain, dict):
        assert domain["low"] <= default <= domain["high"]
    else:
        assert default in domain


def test_a_rollout_of_ppo_has_whole_batches() -> None:
    spec = shipped_spec("ppo")
    rollout = spec.hyperparameters["n_steps"] * spec.n_envs
    assert rollout % spec.hyperparameters["batch_size"] == 0
    assert rollout <= spec.total_timesteps


@pytest.mark.parametrize("total_timesteps", [1, 64, 100, 1000, 5000, 20_000])
def test_ppo_is_cut_to_the_budget(total_timesteps: int) -> None:
    spec = replace(shipped_spec("ppo"), total_timesteps=total_timesteps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _build(spec)
    values = fit_to_budget(spec)
    rollout = values["n_steps"] * spec.n_envs
    assert rollout <= max(total_timesteps, 2 * spec.n_envs)
    assert values["batch_size"] <= rollout


def test_replay_is_cut_to_the_budget() -> None:
    values = fit_to_budget(AgentSpec(name="sac", total_timesteps=600))
    assert values == {"buffer_size": 600, "learning_starts": 100}
    assert fit_to_budget(AgentSpec(name="dqn", total_timesteps=100))["learning_starts"] == 50


@pytest.mark.parametrize("name", ALGORITHMS)
def test_net_and_activation_reach_every_network(name: str) -> None:
    model = _build(replace(shipped_spec(name), net="deep", activation="relu"))
    text = str(model.policy)
    assert "ReLU" in text
    assert text.count("Tanh") == (2 if name == "td3" else 0)  # which squash the outputs of both its actors
    widths = {parameter.shape[0] for parameter in model.policy.parameters() if parameter.ndim == 2}
    assert 128 in widths


@pytest.mark.parametrize(("name", "count"), [("ppo", 1), ("sac", 3), ("dqn", 1)])
def test_every_optimizer_is_fused(name: str, count: int) -> None:
    model = _build(shipped_spec(name))
    modules = (model, *model.policy.modules())
    found = {id(value): value for module in modules for value in vars(module).values()}
    optimizers = [value for value in found.values() if isinstance(value, torch.optim.Optimizer)]
    assert len(optimizers) == count
    assert all(group["fused"] for optimizer in optimizers for group in optimizer.param_groups)
