"""Models of the graphed and the stock engine that have seen the same and draw the same numbers."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from tests.optimize.agents.compiled.off_policy_support import gather_steps, make_off_policy, train_log
from tests.optimize.agents.compiled.support import collect, furthest, make_model, make_vec_env

WORLD = ("assets", "long_only", "action", "num_envs")


def on_policy_pair(graphed: type[Any], stock: type[Any], **settings: Any) -> tuple[Any, Any]:
    """Return a model of each engine with the same weights and the same rollout."""
    world = {key: settings.pop(key) for key in WORLD if key in settings}
    ours, theirs = (make_model(cls, make_vec_env(**world), **settings) for cls in (graphed, stock))
    for model in (ours, theirs):
        for optimizer in optimizers(model):
            if type(optimizer) is torch.optim.Adam:
                optimizer.param_groups[0]["fused"] = True  # as `build` does
    assert furthest(ours, theirs) == 0.0
    collect(theirs)
    return ours, theirs


def train_rollouts(ours: OnPolicyAlgorithm, theirs: OnPolicyAlgorithm, times: int) -> None:
    """Train both so often on the stock model's rollouts, checking that they log the same."""
    for number in range(times):
        buffer = theirs.rollout_buffer
        ours.rollout_buffer = copy.deepcopy(buffer)
        for model in (ours, theirs):
            model._current_progress_remaining = 1.0 - number / times
            np.random.seed(number)  # noqa: NPY002 (SB3 draws from the global generator)
            model.train()
        same_log(ours, theirs)
        collect(theirs)


def off_policy_pair(graphed: type[Any], stock: type[Any], **settings: Any) -> tuple[Any, Any]:
    """Return a model of each engine with the same weights and the same replay."""
    world = {key: settings.pop(key) for key in WORLD if key in settings}
    ours, theirs = (
        make_off_policy(cls, make_vec_env(**{"num_envs": 2} | world), **settings) for cls in (graphed, stock)
    )
    assert furthest(ours, theirs) == 0.0
    gather_steps(theirs, 60)
    ours.replay_buffer = copy.deepcopy(theirs.replay_buffer)
    return ours, theirs


def same_log(ours: Any, theirs: Any) -> None:
    """Check that the last training of both logged the same."""
    logged, expected = train_log(ours), train_log(theirs)
    assert logged.keys() == expected.keys()
    for key, value in expected.items():
        assert logged[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def optimizers(model: Any) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model."""
    holders = (model, model.policy, *model.policy.children())
    values = (value for holder in holders for value in vars(holder).values())
    return [value for value in values if isinstance(value, torch.optim.Optimizer)]
