"""An update over static tensors: run as it is on a CPU, captured as CUDA graphs and replayed on a GPU."""

from collections.abc import Callable, Sequence

import torch

WARM_UP = 3  # runs before a capture, as torch asks for; they are real updates

Part = Callable[[], None]


class Step:
    """The parts of an update, run in order, each by `run`; none but the last parts may be left out.

    A part reads and writes tensors that stay where they are, draws its memory anew only inside, and never
    asks the device for a value; Python numbers in it are those of its first run for ever. With `graph` the
    first runs of all parts are the warm-up on a side stream, then all are captured at once, since the
    gradients that one part leaves lie in memory of the graphs, where the next one finds them.
    """

    def __init__(self, parts: Sequence[Part], device: torch.device, *, graph: bool) -> None:
        self._parts = parts
        self._device = device
        self._graph = graph
        self._warm = 0
        self._replays: Sequence[Part] = ()

    def run(self, part: int = 0) -> None:
        """Run one part on the current stream's data."""
        if self._graph and part == 0 and self._warm == WARM_UP and not self._replays:
            self._replays = capture(self._parts, self._device)
        if self._replays:
            self._replays[part]()
            return
        run_aside(self._parts[part], self._device)
        self._warm += part == len(self._parts) - 1


def run_aside(part: Part, device: torch.device) -> None:
    """Run it on a side stream, so that autograd binds nothing that is captured later to the main one."""
    if device.type != "cuda":
        part()
        return
    side, main = side_stream(device), torch.cuda.current_stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        part()
    main.wait_stream(side)


def capture(parts: Sequence[Part], device: torch.device) -> list[Part]:
    """Return what replays each part; they are recorded here and not run. RuntimeError if one cannot be."""
    replays: list[Part] = []
    with torch.cuda.device(device):
        pool = torch.cuda.graph_pool_handle()
        for part in parts:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=side_stream(device)):
                part()
            replays.append(graph.replay)
    return replays


_SIDE: dict[torch.device, torch.cuda.Stream] = {}


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one side stream of a GPU: warm-up, capture and odd batches share it."""
    if device not in _SIDE:
        _SIDE[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _SIDE[device]
