"""K networks of one shape as one: stacked parameters, batched products, one Adam; a prototype to measure."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

BETAS = 0.9, 0.999  # of Adam, as torch and SB3 have them
LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)

Layers = Sequence[tuple[Tensor, Tensor]]  # weights (K, in, out) and biases (K, 1, out)


class Stack:
    """The parameters of K networks in one matrix (K, P), and Adam's moments of it.

    `weights` are views of the matrix, one (K, ...) for each tensor of a network, that autograd knows.
    """

    def __init__(self, tensors: Sequence[Tensor], eps: float) -> None:
        sizes = [each[0].numel() for each in tensors]
        self.matrix = torch.cat([each.detach().flatten(1) for each in tensors], dim=1)
        parts = torch.split(self.matrix, sizes, dim=1)
        self.weights = [
            torch.unflatten(part, 1, each.shape[1:]).detach().requires_grad_()
            for part, each in zip(parts, tensors, strict=True)
        ]
        self._mean, self._square = torch.zeros_like(self.matrix), torch.zeros_like(self.matrix)
        self._steps = torch.zeros((), device=self.matrix.device)
        self._eps = eps

    def descend(self, loss: Tensor, rate: Tensor, max_norm: Tensor | None = None) -> None:
        """Take a step of Adam down the sum of K losses; rate (K, 1), and the largest norm (K, 1) of each."""
        found = torch.autograd.grad(loss, self.weights)
        gradient = torch.cat([each.flatten(1) for each in found], dim=1)
        with torch.no_grad():
            if max_norm is not None:
                gradient *= (max_norm / (gradient.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
            self._steps += 1
            self._mean.lerp_(gradient, 1 - BETAS[0])
            self._square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            scale = (self._square / (1 - BETAS[1] ** self._steps)).sqrt_().add_(self._eps)
            self.matrix -= rate / (1 - BETAS[0] ** self._steps) * self._mean / scale


def layers_of(networks: Sequence[nn.Module]) -> list[Tensor]:
    """Return weights (K, in, out) and biases (K, 1, out) of the linear layers of K networks, in turn."""
    each = [[layer for layer in network.modules() if isinstance(layer, nn.Linear)] for network in networks]
    found = []
    for same in zip(*each, strict=True):
        found += [
            torch.stack([layer.weight.detach().T for layer in same]),
            torch.stack([layer.bias.detach()[None] for layer in same]),
        ]
    return found


def pairs(weights: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases in turn as layers."""
    return list(zip(weights[::2], weights[1::2], strict=True))


def forward(layers: Layers, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Pass (K, B, in) through K perceptrons, the last layer without activation; return (K, B, out)."""
    for weight, bias in layers[:-1]:
        inputs = activation(torch.baddbmm(bias, inputs, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, inputs, weight)


def normal_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density (K, B) of actions (K, B, A) under independent normals."""
    scaled = (action - mean) * torch.exp(-log_std)
    density: Tensor = (-0.5 * scaled.square() - log_std - LOG_ROOT_2_PI).sum(dim=2)
    return density


def gather(samples: Tensor, index: Tensor) -> Tensor:
    """Return rows index (K, B) of samples (K, Q, ...), for each k its own."""
    return samples[torch.arange(len(samples), device=samples.device)[:, None], index]
