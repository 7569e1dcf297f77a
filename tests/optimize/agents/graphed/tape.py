"""A stand-in for CUDA graphs: records what a part does to which tensors, and does that again, no more.

As in a graph, the Python code of the part does not run again: its numbers, branches and memory stay those of
the recording, and to ask for a value of a tensor while recording is an error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

Part = Callable[[], None]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records a part without lasting effect; `replay` has the effect."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record(self, part: Part) -> Part:
        """Run the part, undo what it did to older tensors, and return what does it again."""
        generator = torch.get_rng_state()
        with self:
            part()
        for tensor, value in reversed(self._before):
            tensor.data.copy_(value)
        torch.set_rng_state(generator)
        return self.replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in func.name():
            raise RuntimeError("a value of a tensor was asked for during the capture")
        kwargs = kwargs or {}
        for argument, given in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._before += [(each, each.clone()) for each in _tensors(given)]
        if "out" in kwargs:
            self._before.append((kwargs["out"], kwargs["out"].clone()))
        result = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, _tensors(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self._calls:
            for place, value in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def record_parts(parts: Sequence[Part], device: torch.device) -> list[Part]:
    """Do what `capture` does, on a CPU."""
    return [Tape().record(part) for part in parts]


def _tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_flatten(values)[0] if isinstance(each, torch.Tensor)]
