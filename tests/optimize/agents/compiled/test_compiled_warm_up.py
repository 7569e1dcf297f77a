"""Whether kernels are yet to be compiled is told by algorithm and reward."""

from pathlib import Path

import pytest

from optimize.agents.compiled import kernels, warm_up
from optimize.agents.compiled.ppo import CompiledPPO
from optimize.agents.compiled.sac import CompiledSAC
from optimize.agents.compiled.warm_up import compiles_first
from optimize.agents.spec import AgentSpec
from tests.optimize.agents.compiled.off_policy_support import make_off_policy
from tests.optimize.agents.compiled.support import make_vec_env

REWARD = "net_log_return"
ON_POLICY = {"ppo": ["ppo_update.run_epoch", "rollout.play_net_log_return"]}
ON_POLICY["a2c"] = ["a2c_update.find_gradient", "rollout.play_net_log_return"]
OFF_POLICY = {name: [f"off_policy_loop.play_{name}_net_log_return"] for name in ("sac", "td3", "dqn")}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache that has no kernel of training; those of the market are there."""
    monkeypatch.setattr(kernels, "_CACHE", tmp_path)
    monkeypatch.setattr(warm_up, "market_missing", lambda: False)
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
    assert compiles_first(spec, "compiled", REWARD)
    put(cache, (ON_POLICY | OFF_POLICY)[name])
    assert not compiles_first(spec, "compiled", REWARD)
    assert compiles_first(spec, "compiled", "differential_sharpe")
    assert not compiles_first(spec, "stock", "differential_sharpe")


def test_the_market_comes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "market_missing", lambda: True)
    assert compiles_first(AgentSpec(), "stock", REWARD)


def test_after_a_training_nothing_is_missing() -> None:
    on_policy = CompiledPPO("MlpPolicy", make_vec_env(num_envs=2), n_steps=16, batch_size=16, n_epochs=1)
    for model in (on_policy, make_off_policy(CompiledSAC)):
        model.learn(200)
    for name in ("ppo", "sac"):
        assert not compiles_first(AgentSpec(name=name), "compiled", REWARD)
