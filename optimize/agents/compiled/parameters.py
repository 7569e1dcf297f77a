"""One flat vector behind the parameters of a torch module and the state of its optimizer.

The module's parameters are views of the vector, the optimizer's moments views of others of its length. So
what the kernels write is what torch reads: it acts, saves and goes on training as if it had done the work.
"""

from collections.abc import Sequence

import numpy as np
import torch

from optimize.agents.compiled.layers import Vector


class FlatParameters:
    """Parameters laid end to end in a given order, and their optimizer's moments in the same places."""

    def __init__(self, parameters: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        self._parameters = list(parameters)
        self._optimizer = optimizer
        sizes = [parameter.numel() for parameter in self._parameters]
        self.start = [0, *np.cumsum(sizes).tolist()]  # of each parameter, and the end
        self._flat = torch.empty(self.start[-1])
        self._moments: dict[str, torch.Tensor] = {}
        self.gradient: Vector = np.zeros(self.start[-1], np.float32)

    def values(self) -> Vector:
        """Return the vector; parameters that were moved elsewhere are copied in and aliased again."""
        for parameter, view in zip(self._parameters, self._views(self._flat), strict=True):
            if parameter.data_ptr() != view.data_ptr():
                view.copy_(parameter.data)
                parameter.data = view
        flat: Vector = self._flat.numpy()
        return flat

    def moment(self, name: str) -> Vector:
        """Return a moment of the optimizer (`exp_avg`) as a vector, zero before the first step."""
        if name not in self._moments:
            self._moments[name] = torch.zeros_like(self._flat)
        moment = self._moments[name]
        for parameter, view in zip(self._parameters, self._views(moment), strict=True):
            state = self._optimizer.state[parameter]
            kept = state.get(name)
            if kept is None:
                view.zero_()
            elif kept.data_ptr() == view.data_ptr():
                continue
            else:
                view.copy_(kept)
            state[name] = view
        flat: Vector = moment.numpy()
        return flat

    def steps(self) -> int:
        """Return how many steps the optimizer has taken."""
        state = self._optimizer.state.get(self._parameters[0], {})
        return int(state["step"]) if "step" in state else 0

    def set_steps(self, steps: int) -> None:
        """Say how many steps the optimizer has taken, as torch keeps it: once for each parameter."""
        for parameter in self._parameters:
            self._optimizer.state[parameter]["step"] = torch.tensor(float(steps))

    def _views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        return [
            flat[start : start + parameter.numel()].view(parameter.shape)
            for start, parameter in zip(self.start, self._parameters, strict=False)
        ]
