"""Checkpoints of a training: averaged weights, the best of them on a validation tail, early stopping."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy

from optimize.agents.sb3.callbacks import check_finite
from optimize.agents.train_spec import TrainSpec, next_checkpoint

Weights = dict[str, torch.Tensor]
Validate = Callable[[BasePolicy], float]  # net Sharpe ratio on the validation tail, NaN where undefined


class CheckpointKeeper(BaseCallback):
    """Take a checkpoint at the first update after each interval and at the end of the training.

    Without `validate` the last checkpoint is kept, with it the best one; a ratio that is undefined, of a
    policy that never trades, is better than none. The training goes on from its own weights, not from
    averaged ones. `keep` leaves the kept weights in the policy; the optimizers keep their last state.
    """

    every_step = False  # the compiled engine may run many steps between two calls

    def __init__(self, schedule: TrainSpec, steps: int, validate: Validate | None) -> None:
        super().__init__()
        self.sharpe: float | None = None  # of the kept weights
        self.due = self._interval = schedule.interval(steps)  # steps at which the next checkpoint is taken
        self.stopped_at: int | None = None  # steps, where patience ran out
        self._patience, self._waited = schedule.patience, 0
        self._validate = validate
        self._recent: deque[Weights] = deque(maxlen=schedule.average)
        self._kept: Weights = {}
        self._taken = 0

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self.due:
            self._take()

    def _on_step(self) -> bool:
        return self.stopped_at is None

    def _on_training_end(self) -> None:
        if self.stopped_at is None and self.model.num_timesteps > self._taken:
            self._take()

    def keep(self) -> None:
        """Give the policy the kept weights."""
        self.model.policy.load_state_dict(self._kept)

    def _take(self) -> None:
        """Take a checkpoint after an update and compare it with the best one so far."""
        check_finite(self.model)
        self._taken = self.model.num_timesteps
        self.due = next_checkpoint(self._interval, self._taken)
        self._recent.append(weights_of(self.model))
        weights = mean_weights(self._recent)
        if self._validate is None:
            self._kept = weights
            return
        with playing(self.model.policy, weights):
            sharpe = self._validate(self.model.policy)
        known = sharpe if math.isfinite(sharpe) else None
        if not self._kept or (known is not None and (self.sharpe is None or known > self.sharpe)):
            self._kept, self.sharpe, self._waited = weights, known, 0
            return
        self._waited += 1
        if self._patience is not None and self._waited >= self._patience:
            self.stopped_at = self._taken


def weights_of(model: BaseAlgorithm) -> Weights:
    """Return a copy of all weights of a policy."""
    return {name: weights.clone() for name, weights in model.policy.state_dict().items()}


def mean_weights(several: Iterable[Weights]) -> Weights:
    """Return the mean of weights, added in double precision; of a single one itself."""
    each = list(several)
    if len(each) == 1:
        return each[0]
    return {
        name: torch.stack([weights[name].double() for weights in each]).mean(dim=0).to(first.dtype)
        for name, first in each[0].items()
    }


@contextmanager
def playing(policy: BasePolicy, weights: Weights) -> Iterator[None]:
    """Let a policy have other weights for a while; its own return in the same memory, bit for bit."""
    own = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.load_state_dict(weights)
    try:
        yield
    finally:
        policy.load_state_dict(own)
