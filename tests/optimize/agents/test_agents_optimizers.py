"""Weight decay: matrices shrink, biases and deviations stay, in both engines."""

from typing import Any

import pytest
import torch

from optimize.agents.optimizers import DecayedRMSprop, decay_arguments, decay_of
from optimize.agents.registry import ALGORITHMS
from optimize.agents.spec import AgentSpec, check_agent
from optimize.errors import BadInputError
from tests.optimize.agents.support import small_spec, train_small
from tests.tiers import mostly_slow

RMSPROP = {"use_rms_prop": True, "rms_prop_eps": 1e-5}


@pytest.mark.parametrize("values", [{}, RMSPROP])
def test_a_step_takes_the_share_off_matrices_alone(values: dict[str, Any]) -> None:
    matrix, vector = torch.nn.Parameter(torch.full((2, 3), 4.0)), torch.nn.Parameter(torch.full((2,), 4.0))
    made = decay_arguments(3.0, values, on_policy=True)
    optimizer = made["optimizer_class"]([matrix, vector], lr=0.1, **made["optimizer_kwargs"])
    assert decay_of(optimizer) == 3.0
    matrix.grad, vector.grad = torch.zeros_like(matrix), torch.zeros_like(vector)
    optimizer.step()
    assert matrix.tolist() == [[pytest.approx(4.0 * 0.7)] * 3] * 2
    assert vector.tolist() == [4.0, 4.0]


def test_without_decay_the_optimizer_is_that_of_stable_baselines3() -> None:
    assert decay_arguments(0.0, RMSPROP, on_policy=True) == {}
    assert decay_of(torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])) == 0.0


@pytest.mark.parametrize("engine", mostly_slow(["compiled", "stock"], "compiled"))
@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_decay_shrinks_the_weights_that_an_agent_learns(name: str, engine: str) -> None:
    plain, decayed = (
        train_small(small_spec(name, engine=engine, learning_rate=0.003, weight_decay=decay))
        for decay in (0.0, 30.0)
    )
    assert _size(decayed) < 0.8 * _size(plain)


def _size(agent: Any) -> float:
    layers = [module for module in agent.policy.modules() if isinstance(module, torch.nn.Linear)]
    return float(sum(layer.weight.detach().square().sum() for layer in layers))


def test_a2c_keeps_rmsprop_unless_told_otherwise() -> None:
    agent = train_small(small_spec("a2c", weight_decay=1.0))
    assert agent.model is not None
    optimizer = agent.model.policy.optimizer
    assert isinstance(optimizer, DecayedRMSprop)
    assert (optimizer.param_groups[0]["alpha"], optimizer.param_groups[0]["eps"]) == (0.99, 1e-5)


def test_a_decay_that_turns_weights_around_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"agent.weight_decay=100.0 .* below 100, where a step"):
        check_agent(AgentSpec(weight_decay=100.0, hyperparameters={"learning_rate": 0.01}))
    with pytest.raises(BadInputError, match=r"agent.weight_decay=1.0 .* 0 while agent.use_sde is true"):
        check_agent(AgentSpec(weight_decay=1.0, hyperparameters={"use_sde": True}))
