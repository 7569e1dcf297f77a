"""Choice of the engine of an agent, and the error for an engine that cannot train it."""

from dataclasses import replace
from typing import Any

import pytest
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from optimize.agents.engines import Engine, choose_engine
from optimize.agents.kernels.off_policy.dqn import CompiledDQN
from optimize.agents.kernels.off_policy.sac import CompiledSAC
from optimize.agents.kernels.off_policy.td3 import CompiledTD3
from optimize.agents.kernels.on_policy.a2c import CompiledA2C
from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from optimize.agents.registry import ALGORITHMS, find_algorithm
from optimize.agents.spec import NETS, AgentSpec
from optimize.errors import BadInputError


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_network_on_offer_is_compiled(net: str, activation: str) -> None:
    assert choose_engine(AgentSpec(net=net, activation=activation)).name == "compiled"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"hyperparameters": {"use_sde": True}}, r"agent\.use_sde=true is not compiled"),
        ({"name": "sac", "hyperparameters": {"use_sde": True}}, r"agent\.use_sde=true is not compiled"),
        ({"device": "cuda:1"}, r"agent\.device=cuda:1 is not the CPU"),
    ],
)
def test_an_agent_without_kernels_is_stock_with_a_reason(keys: dict[str, Any], reason: str) -> None:
    chosen = choose_engine(AgentSpec(**keys))
    assert chosen.name == "stock"
    with pytest.raises(
        BadInputError, match=rf"agent\.engine='compiled' cannot be used: {reason}; set"
    ) as refusal:
        choose_engine(AgentSpec(**keys, engine="compiled"))
    assert chosen.reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_algorithm_without_kernels_is_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "td3", replace(ALGORITHMS["td3"], compiled=""))
    chosen = choose_engine(AgentSpec(name="td3"))
    assert chosen == Engine("stock", "agent.name='td3' is not compiled, only ppo, sac, dqn, a2c")
    assert class_of(AgentSpec(name="td3")) is TD3


def test_a_device_found_later_counts() -> None:
    spec = AgentSpec(device="auto")
    assert choose_engine(spec).name == choose_engine(spec, "cpu").name == "compiled"
    assert choose_engine(spec, "cuda").name == "stock"


def test_stock_can_be_asked_for() -> None:
    assert choose_engine(AgentSpec(engine="stock")).name == "stock"
    assert class_of(AgentSpec(engine="stock")).__name__ == "PPO"
    assert class_of(AgentSpec()) is CompiledPPO
    others = {"a2c": CompiledA2C, "sac": CompiledSAC, "td3": CompiledTD3, "dqn": CompiledDQN}
    assert {name: class_of(AgentSpec(name=name)) for name in others} == others


def class_of(spec: AgentSpec) -> type[BaseAlgorithm]:
    return find_algorithm(spec.name).load(choose_engine(spec).name)


def test_another_engine_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"agent\.engine='fast' .* one of auto, compiled, stock"):
        AgentSpec(engine="fast")


def test_a_former_engine_is_read_and_trains_no_longer() -> None:
    spec = AgentSpec(engine="graphed")  # of a stored study or bundle
    with pytest.raises(BadInputError, match=r"agent\.engine='graphed' trains no longer: set"):
        choose_engine(spec)
