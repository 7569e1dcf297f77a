"""Optimizers whose learning rate lives on the device, so that a captured step follows its schedule."""

from collections.abc import Iterable
from typing import Any

import torch


def prepare(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let the optimizer take its learning rate, and on a GPU its step count, from the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            continue
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if type(optimizer) is torch.optim.Adam:
            group["fused"] = True
        if device.type == "cuda":
            group["capturable"] = True
        for state in (optimizer.state[weight] for weight in group["params"] if weight in optimizer.state):
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=device)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Put the learning rate where a prepared optimizer reads it."""
    for group in optimizer.param_groups:
        group["lr"].fill_(rate)


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state_dict as an optimizer that was never prepared takes it."""
    if "param_groups" not in state:
        return state
    groups = [group | {"lr": float(group["lr"]), "capturable": False} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def descend(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    clipped: Iterable[torch.nn.Parameter] = (),
    max_norm: float | None = None,
) -> None:
    """Take one step down the gradient of the loss; `clipped` shares a largest norm.

    Gradients of other networks under the loss are not made, and none is kept from the step before.
    """
    differentiate(loss, optimizer)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(clipped, max_norm)
    optimizer.step()


def differentiate(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Leave the loss's gradients at the optimizer's parameters; None where it does not depend on one."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        weight.grad = gradient
