"""What all graphed algorithms share: their steps, the learning rate on the device, an ordinary saved file."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from optimize.agents.graphed.optimizers import plain_state, prepare, set_rate

Kept = TypeVar("Kept")


class Graphed(BaseAlgorithm):
    """An algorithm of SB3 whose `train` runs steps over static tensors; collecting and saving stay SB3's."""

    _static: dict[Hashable, Any]

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # an algorithm follows in the order of bases
        # The checks ask the device for values, which a capture forbids; Watch finds what they would.
        torch.distributions.Distribution.set_default_validate_args(False)
        self._static = {}

    def _keep(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Return what was made for this key, made now if it is new; it keeps its place in memory."""
        if key not in self._static:
            self._static[key] = make()
        kept: Kept = self._static[key]
        return kept

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            prepare(optimizer, self.device)
            set_rate(optimizer, rate)

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """Return the state of networks and optimizers as stable-baselines3's own have it."""
        return {name: plain_state(state) for name, state in super().get_parameters().items()}

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Load a state; the optimizers get new memory, so every step is made anew."""
        super().set_parameters(*args, **kwargs)
        self.release()

    def release(self) -> None:
        """Let go of the steps, their graphs and the static tensors."""
        self._static.clear()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_static"]
