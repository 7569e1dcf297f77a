"""Callbacks of training: reports of progress and checks for values that are not finite."""

import math
from collections.abc import Callable

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from optimize.errors import NumericError

ProgressReport = Callable[[int, float], bool]


def wants_every_step(callback: BaseCallback) -> bool:
    """Return whether a callback, or one in its list, counts single steps as stable-baselines3's own do."""
    if isinstance(callback, CallbackList):
        return any(wants_every_step(inner) for inner in callback.callbacks)
    return bool(getattr(callback, "every_step", True))


def next_due(callback: BaseCallback) -> float:
    """Return the steps at which a callback, or one in its list, takes its next checkpoint, else infinity."""
    if isinstance(callback, CallbackList):
        return min((next_due(inner) for inner in callback.callbacks), default=math.inf)
    return float(getattr(callback, "due", math.inf))


class TrainingMonitor(BaseCallback):
    """Report the mean episode return after each rollout, stop on request, refuse values that are not finite.

    Off-policy agents have a rollout every few steps; `interval` (environment steps) keeps the reports apart.
    """

    every_step = False  # the compiled engine may run many steps between two calls

    def __init__(self, report: ProgressReport | None, interval: int) -> None:
        super().__init__()
        self.stopped = False
        self._report = report
        self._interval = interval
        self._reported = 0

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self._reported >= self._interval:
            self._inspect()

    def _on_step(self) -> bool:
        return not self.stopped

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._reported and not self.stopped:
            self._inspect()

    def _inspect(self) -> None:
        """Check the update that followed the last rollout, then report that rollout."""
        self._reported = self.model.num_timesteps
        check_finite(self.model)
        if self._report is not None:
            self.stopped = bool(self._report(self._reported, mean_episode_return(self.model)))


def mean_episode_return(model: BaseAlgorithm) -> float:
    """Return the mean total reward of the last 100 episodes, NaN while none has ended."""
    episodes = model.ep_info_buffer or ()
    return sum(episode["r"] for episode in episodes) / len(episodes) if episodes else math.nan


def check_finite(model: BaseAlgorithm) -> None:
    """Raise NumericError if a logged loss or a parameter of the model is NaN or infinite."""
    where = f"after {model.num_timesteps} steps; try a smaller agent.learning_rate"
    for name, value in model.logger.name_to_value.items():
        # The explained variance is undefined, and rightly NaN, where all returns are equal.
        if name.startswith("train/") and "loss" in name and not math.isfinite(value):
            raise NumericError(f"{name} became {value} {where}")
    for name, parameter in model.policy.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NumericError(f"policy parameter {name} became NaN or infinite {where}")
