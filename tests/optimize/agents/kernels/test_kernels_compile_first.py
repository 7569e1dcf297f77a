"""Missing kernels are found by algorithm and reward."""

from pathlib import Path
from typing import Any

import pytest

from optimize.agents.kernels import bindings as kernels
from optimize.agents.kernels import compile_first
from optimize.agents.kernels.compile_first import must_compile_first
from optimize.agents.kernels.off_policy.sac import CompiledSAC
from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from optimize.agents.spec import AgentSpec
from tests.optimize.agents.kernels.off_policy_support import make_off_policy
from tests.optimize.agents.kernels.support import make_vec_env
from tests.tiers import mostly_slow

REWARD = "net_log_return"
ON_POLICY = {"ppo": ["ppo.run_epoch", "rollout.run_steps_net_log_return"]}
ON_POLICY["a2c"] = ["a2c.find_gradient", "rollout.run_steps_net_log_return"]
OFF_POLICY = {name: [f"loop.run_rollouts_{name}_net_log_return"] for name in ("sac", "td3", "dqn")}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache that has no kernel of training; those of the market are there."""
    monkeypatch.setattr(kernels, "_CACHE", tmp_path)
    monkeypatch.setattr(compile_first, "market_kernels_missing", lambda: False)
    return tmp_path / "compiled_0"


def put(cache: Path, names: list[str]) -> None:
    cache.mkdir(exist_ok=True)
    for name in names:
        (cache / f"{name}-12.py311.nbi").touch()


@pytest.mark.parametrize("name", ["ppo", "a2c", "sac", "td3", "dqn"])
def test_each_algorithm_waits_for_its_own_kernels(name: str, cache: Path) -> None:
    spec = AgentSpec(name=name)
    for other, names in (ON_POLICY | OFF_POLICY).items():
        if other != name:
            put(cache, names)
    assert must_compile_first(spec, "compiled", REWARD)
    put(cache, (ON_POLICY | OFF_POLICY)[name])
    assert not must_compile_first(spec, "compiled", REWARD)
    assert must_compile_first(spec, "compiled", "differential_sharpe")
    assert not must_compile_first(spec, "stock", "differential_sharpe")


def test_the_market_comes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_first, "market_kernels_missing", lambda: True)
    assert must_compile_first(AgentSpec(), "stock", REWARD)


@pytest.mark.parametrize("name", mostly_slow(["ppo", "sac"], "ppo"))
def test_after_a_training_nothing_is_missing(name: str) -> None:
    if name == "ppo":
        model: Any = CompiledPPO("MlpPolicy", make_vec_env(num_envs=2), n_steps=16, batch_size=16, n_epochs=1)
    else:
        model = make_off_policy(CompiledSAC)
    model.learn(200)
    assert not must_compile_first(AgentSpec(name=name), "compiled", REWARD)
