"""One flat vector behind the parameters of a torch module and the state of its optimizer.

The module's parameters are views of the vector, the optimizer's moments views of vectors of its length. The
kernels and torch thus share memory: SB3 predicts, saves and continues training as if torch had done the work.
"""

from collections.abc import Sequence

import numpy as np
import torch

from envs.types import IntArray
from optimize.agents.kernels.nets.layers import Vector


class _Vector:
    """A flat vector, its view for each parameter, and the addresses of the views."""

    def __init__(self, starts: Sequence[int], shapes: Sequence[torch.Size]) -> None:
        self.flat = torch.zeros(starts[-1])
        self.array: Vector = self.flat.numpy()
        self.views = [
            self.flat[start:end].view(shape)
            for start, end, shape in zip(starts[:-1], starts[1:], shapes, strict=True)
        ]
        self.pointers = [view.data_ptr() for view in self.views]


class FlatTensors:
    """Parameters laid end to end in a given order, such as those of a target network."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = list(parameters)
        self._shapes = [parameter.shape for parameter in self.parameters]
        sizes = [parameter.numel() for parameter in self.parameters]
        self.start = [0, *np.cumsum(sizes).tolist()]  # of each parameter, and the end
        self._values = _Vector(self.start, self._shapes)

    def values(self) -> Vector:
        """Return the vector; parameters that torch has moved are copied in and aliased again."""
        values = self._values
        for parameter, view, pointer in zip(self.parameters, values.views, values.pointers, strict=True):
            if parameter.data_ptr() != pointer:
                view.copy_(parameter.data)
                parameter.data = view
        return values.array


class FlatParameters(FlatTensors):
    """Parameters that an optimizer moves, and its moments in the same places."""

    def __init__(self, parameters: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        super().__init__(parameters)
        self._optimizer = optimizer
        self._moments: dict[str, _Vector] = {}
        self._steps = torch.zeros(len(self.parameters))
        self._step_views = list(self._steps)
        self.gradient: Vector = np.zeros(self.start[-1], np.float32)

    def moment(self, name: str) -> Vector:
        """Return a moment of the optimizer (`exp_avg`) as a vector, zero before the first step."""
        if name not in self._moments:
            self._moments[name] = _Vector(self.start, self._shapes)
        moment = self._moments[name]
        for parameter, view in zip(self.parameters, moment.views, strict=True):
            state = self._optimizer.state[parameter]
            kept = state.get(name)
            if kept is view:
                continue
            if kept is None:
                view.zero_()
            else:
                view.copy_(kept)
            state[name] = view
        return moment.array

    def matrices(self) -> IntArray:
        """Return where each matrix begins and ends, (M, 2)."""
        spans = zip(self.start[:-1], self.start[1:], self._shapes, strict=True)
        found = [(start, end) for start, end, shape in spans if len(shape) > 1]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def steps(self) -> int:
        """Return how many steps the optimizer has taken."""
        state = self._optimizer.state.get(self.parameters[0], {})
        return int(state["step"]) if "step" in state else 0

    def set_steps(self, steps: int) -> None:
        """Set the number of optimizer steps, which torch stores once for each parameter."""
        self._steps.fill_(steps)
        for parameter, view in zip(self.parameters, self._step_views, strict=True):
            self._optimizer.state[parameter]["step"] = view
