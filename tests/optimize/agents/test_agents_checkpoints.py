"""Checkpoints: the best one is kept, patience stops the training, weights are averaged, in both engines."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from optimize.agents.agent import Agent
from optimize.agents.budget import check_checkpoints, count_checkpoints
from optimize.agents.registry import ALGORITHMS
from optimize.agents.sb3.train import train
from optimize.agents.train_spec import TrainSpec
from optimize.errors import BadInputError
from tests.optimize.agents.support import LOOKBACK, noise_market, same_weights, small_spec
from tests.tiers import mostly_slow

Weights = dict[str, torch.Tensor]
SHORT: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 8}, "a2c": {}}  # eight updates of 32 steps


class Tail:
    """A validation tail with given Sharpe ratios, which notes the weights that it sees."""

    def __init__(self, *sharpes: float) -> None:
        self.seen: list[Weights] = []
        self._sharpes: Iterator[float] = iter(sharpes)

    def __call__(self, agent: Agent) -> float:
        self.seen.append({name: value.clone() for name, value in agent.policy.state_dict().items()})
        return next(self._sharpes, float(len(self.seen)))  # rising where none are given


def _train(name: str, schedule: TrainSpec, tail: Tail | None, **changes: Any) -> Agent:
    market = noise_market()
    return train(
        small_spec(name, **SHORT.get(name, {}) | changes),
        market,
        (LOOKBACK - 1, market.n_bars - 1),
        env=EnvSpec(episode_bars=40),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=LOOKBACK,
        seed=3,
        training=schedule,
        validate=tail,
    )


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_both_engines_stop_at_the_same_step_and_keep_the_best_weights(name: str) -> None:
    """The engines draw other noise for their actions, so that their weights differ at one seed anyway."""
    schedule = TrainSpec(validation=0.2, eval_every=0.125, patience=2)
    tails = [Tail(1.0, math.nan, 3.0, 2.0, 3.0, 9.0) for _ in range(2)]
    agents = [
        _train(name, schedule, tail, engine=engine)
        for tail, engine in zip(tails, ("compiled", "stock"), strict=True)
    ]
    for agent, tail in zip(agents, tails, strict=True):
        assert len(tail.seen) == 5  # two after the best did not beat it
        assert agent.trained_steps == 160
        assert agent.sharpe_validation == 3.0
        assert _equal(agent.policy.state_dict(), tail.seen[2])
        assert not _equal(tail.seen[2], tail.seen[4])


@pytest.mark.parametrize("engine", ["compiled", "stock"])
@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_averaged_weights_are_the_mean_of_the_last_checkpoints(name: str, engine: str) -> None:
    schedule, tail = TrainSpec(eval_every=0.25), Tail()
    last = _train(name, schedule, tail, engine=engine)
    assert len(tail.seen) == 4
    assert _equal(last.policy.state_dict(), tail.seen[3])
    assert same_weights(last, _train(name, TrainSpec(), None, engine=engine))  # the tail changes no weight
    averaged = _train(name, TrainSpec(eval_every=0.25, average=3), None, engine=engine)
    for key, value in averaged.policy.state_dict().items():
        by_hand = np.mean([weights[key].numpy().astype(np.float64) for weights in tail.seen[1:]], axis=0)
        np.testing.assert_array_equal(value.numpy(), by_hand.astype(value.numpy().dtype))
    several = Tail()
    _train(name, TrainSpec(validation=0.2, eval_every=0.25, average=3), several, engine=engine)
    assert _equal(several.seen[3], averaged.policy.state_dict())  # the tail plays the averaged weights
    assert _equal(several.seen[0], tail.seen[0])  # of a single checkpoint so far


@pytest.mark.parametrize("every", [0.001, 0.07, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_checkpoints_are_counted_before_the_training(name: str, every: float) -> None:
    schedule, tail = TrainSpec(eval_every=every), Tail()
    _train(name, schedule, tail)
    assert len(tail.seen) == count_checkpoints(small_spec(name, **SHORT.get(name, {})), schedule)


def test_more_checkpoints_than_there_are_cannot_be_averaged() -> None:
    check_checkpoints(small_spec("ppo", n_steps=8), TrainSpec(eval_every=0.125, average=8))
    with pytest.raises(BadInputError, match=r"train.average=9 .* must be at most 8, the checkpoints of"):
        check_checkpoints(small_spec("ppo", n_steps=8), TrainSpec(eval_every=0.125, average=9))


def test_patience_needs_a_validation_tail() -> None:
    with pytest.raises(
        BadInputError, match=r"train.patience=3 needs a validation tail: set train.validation"
    ):
        TrainSpec(patience=3)


def test_a_policy_that_never_trades_on_the_tail_is_kept_only_without_a_better_one() -> None:
    flat = Tail(math.nan, math.nan, math.nan, math.nan)
    agent = _train("ppo", TrainSpec(validation=0.2, eval_every=0.25), flat)
    assert agent.sharpe_validation is None
    assert _equal(agent.policy.state_dict(), flat.seen[0])
    traded = Tail(math.nan, -4.0, math.nan, math.nan)
    agent = _train("ppo", TrainSpec(validation=0.2, eval_every=0.25), traded)
    assert agent.sharpe_validation == -4.0


def _equal(one: Weights, other: Weights) -> bool:
    return all(bool((value == other[name]).all()) for name, value in one.items())
