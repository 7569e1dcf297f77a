"""Which engine an agent gets, and what is said where the one asked for cannot be had."""

from dataclasses import replace
from typing import Any

import pytest
from stable_baselines3 import TD3

from optimize.agents.build import algorithm_of
from optimize.agents.compiled.a2c import CompiledA2C
from optimize.agents.compiled.dqn import CompiledDQN
from optimize.agents.compiled.ppo import CompiledPPO
from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.compiled.sac import CompiledSAC
from optimize.agents.compiled.td3 import CompiledTD3
from optimize.agents.registry import ALGORITHMS
from optimize.agents.spec import NETS, AgentSpec, check_agent
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
def test_what_is_not_compiled_is_stock_and_says_why(keys: dict[str, Any], reason: str) -> None:
    chosen = choose_engine(AgentSpec(**keys))
    assert chosen.name == "stock"
    with pytest.raises(
        BadInputError, match=rf"agent\.engine='compiled' cannot be used: {reason}; set"
    ) as said:
        check_agent(AgentSpec(**keys, engine="compiled"))
    assert chosen.why in str(said.value)
    assert "\n" not in str(said.value)


def test_an_algorithm_without_kernels_is_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "td3", replace(ALGORITHMS["td3"], compiled=""))
    chosen = choose_engine(AgentSpec(name="td3"))
    assert chosen == ("stock", "agent.name='td3' is not compiled, only ppo, sac, dqn, a2c")
    assert algorithm_of(AgentSpec(name="td3")) is TD3


def test_a_device_found_later_counts() -> None:
    spec = AgentSpec(device="auto")
    assert choose_engine(spec).name == choose_engine(spec, "cpu").name == "compiled"
    assert choose_engine(spec, "cuda").name == "stock"


def test_stock_can_be_asked_for() -> None:
    assert choose_engine(AgentSpec(engine="stock")).name == "stock"
    assert algorithm_of(AgentSpec(engine="stock")).__name__ == "PPO"
    assert algorithm_of(AgentSpec()) is CompiledPPO
    others = {"a2c": CompiledA2C, "sac": CompiledSAC, "td3": CompiledTD3, "dqn": CompiledDQN}
    assert {name: algorithm_of(AgentSpec(name=name)) for name in others} == others


def test_another_engine_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"agent\.engine='fast' .* one of auto, compiled, stock"):
        AgentSpec(engine="fast")


def test_a_former_engine_is_read_and_trains_no_longer() -> None:
    spec = AgentSpec(engine="graphed")  # of a stored study or bundle
    with pytest.raises(BadInputError, match=r"agent\.engine='graphed' trains no longer: set"):
        check_agent(spec)
