"""Adam and RMSprop with decoupled weight decay of the matrices of a network.

A step takes the share learning_rate * weight_decay off each weight before it follows the gradient (Loshchilov
& Hutter 2019), so that decay does not depend on the scale of the gradient. Biases and the deviations of a
policy are left alone.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

_ALPHA = 0.99  # of RMSprop, and the epsilons of Adam: the ones that stable-baselines3 sets
_EPSILON_ON_POLICY, _EPSILON_OFF_POLICY = 1e-5, 1e-8


class DecayedAdam(torch.optim.AdamW):
    """AdamW that decays matrices only."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float = 1e-3, *, weight_decay: float, **settings: Any
    ) -> None:
        groups = _divide(params, {"weight_decay": weight_decay}, {"weight_decay": 0.0})
        super().__init__(groups, lr, weight_decay=weight_decay, **settings)


class DecayedRMSprop(torch.optim.RMSprop):
    """RMSprop with decoupled decay of matrices; the weight_decay of torch's is an L2 penalty."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float = 1e-2, *, decay: float, **settings: Any
    ) -> None:
        super().__init__(_divide(params, {"decay": decay}, {"decay": 0.0}), lr, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Decay the weights, then take a step along the gradient."""
        for group in self.param_groups:
            for parameter in group["params"] if group["decay"] else ():
                parameter.mul_(1.0 - group["lr"] * group["decay"])
        loss: float | None = super().step(closure)
        return loss


DECAYED = (DecayedAdam, DecayedRMSprop)


def decay_of(optimizer: torch.optim.Optimizer) -> float:
    """Return the decoupled weight decay of an optimizer, 0 for one without it."""
    if not isinstance(optimizer, DECAYED):
        return 0.0
    group = optimizer.param_groups[0]
    return float(group["decay" if isinstance(optimizer, DecayedRMSprop) else "weight_decay"])


def decay_arguments(weight_decay: float, values: dict[str, Any], on_policy: bool) -> dict[str, Any]:
    """Return the arguments of SB3's policy classes for this weight decay; none without it.

    `values` holds the hyperparameters in effect. But for the decay the optimizers are those of SB3.
    """
    if weight_decay == 0:
        return {}
    if values.get("use_rms_prop"):
        settings = {"alpha": _ALPHA, "eps": values["rms_prop_eps"], "decay": weight_decay}
        return {"optimizer_class": DecayedRMSprop, "optimizer_kwargs": settings}
    epsilon = _EPSILON_ON_POLICY if on_policy else _EPSILON_OFF_POLICY
    settings = {"eps": epsilon, "weight_decay": weight_decay}
    return {"optimizer_class": DecayedAdam, "optimizer_kwargs": settings}


def _divide(
    params: Iterable[torch.Tensor], decayed: dict[str, float], others: dict[str, float]
) -> list[dict[str, Any]]:
    """Return the matrices as one group of parameters with its settings, and all others as a second."""
    every = list(params)
    matrices = [each for each in every if each.ndim > 1]
    vectors = [each for each in every if each.ndim <= 1]
    return [{"params": matrices, **decayed}, {"params": vectors, **others}]
