"""A whole training of the compiled engine, taken again by stock code with the same draws."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from envs.costs import CostSpec
from envs.rewards import RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from envs.types import Market
from optimize.agents.agent import Agent
from optimize.agents.registry import action_of
from optimize.agents.sb3 import train as training_module
from optimize.agents.sb3.build import build
from optimize.agents.spec import AgentSpec
from optimize.agents.train_spec import TrainSpec
from optimize.evaluate.rollout import rollout
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.off_policy_support import feed_actions, stored_actions
from tests.optimize.agents.support import LOOKBACK

LEARNED, TAIL = (LOOKBACK - 1, 299), (310, 399)
REWARD = RewardSpec(scale="volatility")


def scaled_market() -> Market:
    """Return a market with the moments of buy-and-hold on the bars that are learned from."""
    market = make_market(random_walk(400, volatility=0.02), features=5)
    return replace(market, hold_moments=buy_and_hold_moments(market, *LEARNED))


def train_twice(
    monkeypatch: pytest.MonkeyPatch, spec: AgentSpec, schedule: TrainSpec, decided: Sequence[float]
) -> tuple[list[Agent], list[list[float]]]:
    """Return the agents of both engines, and the log returns of checkpoints and agent on a validation tail.

    The stock engine takes the actions of the compiled one, and both draw alike in each update. `decided` are
    the Sharpe ratios by which checkpoints are kept.
    """
    taken: list[NDArray[np.float32]] = []
    agents, earned = [], []
    for engine, instrument in (("compiled", _note_actions), ("stock", _repeat_actions)):
        market, seen, choices = scaled_market(), list[float](), iter(decided)

        def prepared(*given: Any, instrument: Callable[..., None] = instrument) -> BaseAlgorithm:
            model = build(*given)
            instrument(model, taken)
            _seed_updates(model)
            return model

        def validate(
            agent: Agent, market: Market = market, seen: list[float] = seen, choices: Any = choices
        ) -> float:
            seen.append(_earned(agent, market))
            return float(next(choices))

        monkeypatch.setattr(training_module, "build", prepared)
        agent = training_module.train(
            replace(spec, engine=engine), market, LEARNED, env=EnvSpec(episode_bars=40),
            cost=CostSpec(), reward=REWARD, lookback=LOOKBACK, seed=3, training=schedule,
            validate=validate,
        )  # fmt: skip
        agents.append(agent)
        earned.append([*seen, _earned(agent, market)])
    return agents, earned


def largest_difference(one: Agent, other: Agent) -> float:
    """Return the largest difference between the weights of two agents."""
    left, right = one.policy.state_dict(), other.policy.state_dict()
    assert left.keys() == right.keys()
    return max(float((left[key] - right[key]).abs().max()) for key in left)


def _earned(agent: Agent, market: Market) -> float:
    """Return the log return of a policy on the tail."""
    env = EnvSpec(action=action_of(agent.spec.name), rebalance_band=0.0)
    played = rollout(agent, market, [TAIL], env=env, cost=CostSpec(), reward=REWARD, lookback=LOOKBACK)
    return float(np.log(played[0].equity[-1]))


def _seed_updates(model: Any) -> None:
    """Let the draws of an update depend on its number alone."""
    train, numbers = model.train, iter(range(10**6))

    def seeded(*given: Any, **named: Any) -> None:
        number = next(numbers)
        np.random.seed(number)  # noqa: NPY002 (SB3 draws from the global generator)
        torch.manual_seed(number)
        train(*given, **named)

    model.train = seeded


def _note_actions(model: Any, taken: list[NDArray[np.float32]]) -> None:
    """Append the actions (N, A) of each step of a compiled training to a list."""
    if isinstance(model, OnPolicyAlgorithm):
        train = model.train

        def noted() -> None:
            actions = model._last_rollout().samples.action  # type: ignore[attr-defined]
            taken.extend(actions.reshape(model.n_envs, model.n_steps, -1).swapaxes(0, 1).copy())
            train()

        model.train = noted  # type: ignore[method-assign]
        return
    release = model.release

    def released() -> None:
        taken.extend(stored_actions(model).copy())
        release()

    model.release = released
    model._rollouts_ahead = lambda *_: 1  # so that each update is one call, as in stock code


def _repeat_actions(model: Any, taken: list[NDArray[np.float32]]) -> None:
    """Let a stock model take these actions; nothing is learned from steps after the last of them."""
    actions = iter(taken)
    if not isinstance(model, OnPolicyAlgorithm):
        feed_actions(model, actions)
        return
    policy: Any = model.policy

    def forward(observation: torch.Tensor, deterministic: bool = False) -> tuple[torch.Tensor, ...]:
        action = torch.from_numpy(next(actions, np.zeros_like(taken[0])))
        value, log_prob, _ = policy.evaluate_actions(observation, action)
        return action, value, log_prob

    policy.forward = forward
