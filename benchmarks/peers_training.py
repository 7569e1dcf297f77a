"""Training steps per second of CPU time, compiled and stock, against SBX (JAX); ends with one JSON line.

SBX steps our own vector environment, which is the fastest it can have, on one thread, in a virtual
environment of its own (`--peers` makes it); stock has a DummyVecEnv. Same networks and hyperparameters;
`sbx_in_pieces` takes 64 steps of SAC and then 64 updates, which SBX compiles into one. Every form is compiled
and warmed up first; the contenders take turns, and a ratio is the median over rounds of two speeds of the
same round.
"""

import argparse
import json
import os
import pickle
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.environments import Absent, Contender, make_venv, python_of
from benchmarks.peers.models import Shape
from benchmarks.training import EPISODE, FULL, Case, make_market
from optimize.agents.spec import NETS

OURS, PEER = "ours_training", "sbx"
SMALL = ("ppo_d33_b64", "ppo_d153_b64", "ppo_d903_b64", "sac_d33_h64", "sac_d153_h64", "sac_d903_h64")
LARGE = ("ppo_d153_b1024_64", "ppo_d903_b1024_64", "sac_d903_h256")
PIECE = 32  # steps of SAC that one call trains for


def shape_of(case: Case) -> Shape:
    """Return what a process is told of a case."""
    width = case.rollout if case.name == "ppo" else PIECE
    return Shape(
        key=case.key,
        algorithm=case.name,
        lookback=case.lookback,
        n_envs=case.n_envs,
        width=width,
        layers=list(NETS[case.net]),
        episode=EPISODE,
        hyperparameters=case.hyperparameters,
    )


def hand_over(folder: Path, shapes: list[Shape]) -> None:
    """Write shapes and markets for the contenders' processes."""
    (folder / "shapes.json").write_text(json.dumps([asdict(shape) for shape in shapes]))
    for lookback in {shape.lookback for shape in shapes}:
        (folder / f"market_{lookback}.pickle").write_bytes(pickle.dumps(make_market(lookback)))


def race(
    shapes: list[Shape], folder: Path, rounds: int, seconds: float
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Return steps per second by shape and form, a figure a round, and the absent with their reasons."""
    speeds: dict[str, dict[str, list[float]]] = {shape.key: {} for shape in shapes}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        present = []
        for name in (OURS, PEER):
            try:
                python = Path(sys.executable) if name == OURS else python_of(name)
                present.append(stack.enter_context(Contender(name, python, folder)))
            except Absent as reason:
                absent[name] = str(reason)
        for shape in shapes:
            for number in range(rounds + 1):  # the first one warms up and counts for nothing
                for contender in present:
                    for form in [form for form in contender.forms if form.startswith(f"{shape.key}:")]:
                        speed = contender.play(form, seconds)
                        if number:
                            speeds[shape.key].setdefault(form.partition(":")[2], []).append(speed)
            show(shape.key, speeds[shape.key])
    return speeds, absent


def ratios(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median over rounds of the compiled speed against each other one in the same round."""
    return {
        form: float(
            f"{statistics.median(a / b for a, b in zip(speeds['compiled'], theirs, strict=True)):.3g}"
        )
        for form, theirs in speeds.items()
        if form != "compiled"
    }


def show(key: str, speeds: dict[str, list[float]]) -> None:
    """Print one shape."""
    cells = ", ".join(f"{form} {statistics.median(each):,.0f}/s" for form, each in speeds.items())
    over = ", ".join(f"{ratio:g} x {form}" for form, ratio in ratios(speeds).items())
    print(f"{key}: {cells}; compiled is {over}", flush=True)


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="first make the virtual environment of SBX")
    parser.add_argument("--quick", action="store_true", help="the small shapes, three short rounds")
    parser.add_argument("--only", default="", help="the shapes whose key begins so")
    asked = parser.parse_args()
    if asked.peers:
        make_venv(PEER)
    started = time.perf_counter()
    wanted = SMALL if asked.quick else SMALL + LARGE
    cases = [case for case in FULL if case.key in wanted and case.key.startswith(asked.only)]
    rounds, seconds = (3, 0.5) if asked.quick else (7, 2.0)
    result: dict[str, Any] = {"benchmark": "peers_training", "steps_per_s": {}, "ratios": {}}
    try:
        python_of(PEER)
    except Absent as reason:
        print(f"{PEER}: absent: {reason}")
        result["absent"] = {PEER: str(reason)}
    else:
        with tempfile.TemporaryDirectory() as handed:
            shapes = [shape_of(case) for case in cases]
            hand_over(Path(handed), shapes)
            speeds, absent = race(shapes, Path(handed), rounds, seconds)
        result["steps_per_s"] = {
            key: {form: [round(each) for each in rates] for form, rates in found.items()}
            for key, found in speeds.items()
        }
        result["ratios"] = {key: ratios(found) for key, found in speeds.items()}
        result["absent"] = absent
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps(result | machine | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
