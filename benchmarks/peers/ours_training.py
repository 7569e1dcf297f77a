"""Compiled and stock PPO and SAC: stock on a DummyVecEnv as its users have it, compiled on our own."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.peers.models import Shape, learner, read_shapes
from benchmarks.peers.rounds import Player, serve
from benchmarks.training import FULL, Case, make_compiled, make_market, make_stock
from optimize.agents.threads import limit_threads


def case_of(shape: Shape) -> Case:
    """Return the case of the training benchmark."""
    return next(case for case in FULL if case.key == shape.key)


def makers(folder: Path) -> dict[str, Callable[[], Player]]:
    """Return each shape with both engines."""
    found: dict[str, Callable[[], Player]] = {}
    for shape in read_shapes(folder):
        case = case_of(shape)
        for name, make in (("compiled", make_compiled), ("stock", make_stock)):

            def model(make: Callable[..., object] = make, case: Case = case) -> object:
                return make(case, make_market(case.lookback))

            found[f"{shape.key}:{name}"] = partial(learner, model, shape.width)
    return found


if __name__ == "__main__":
    limit_threads(1)
    serve(makers(Path(sys.argv[1])), clock=time.process_time)
