"""Steps per second of our environment and of its peers, round by round side by side; ends with one JSON line.

`--peers` first makes a virtual environment for each peer; one that is missing is reported, never an error.
"""

import argparse
import json
import os
import pickle
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from envs.types import Market
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.spec import DataSpec, SyntheticSpec

REPOSITORY = Path(__file__).resolve().parents[1]
REQUIREMENTS = REPOSITORY / "benchmarks" / "peers"
VENVS = REPOSITORY / "build" / "peers"
PEERS = ("gym_anytrading", "gym_trading_env", "finrl")
MULTI_ASSET_PEERS = ("finrl",)  # the others know one asset
OURS = "walkforge"
TARGET = 20.0  # times the same physics in stable-baselines3's DummyVecEnv
SPREAD = 1e-4  # of the price: neither market has one of its own
DRAWN = 256  # actions for each environment, played over and over
ANSWER_S = 300.0
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


class Absent(Exception):  # noqa: N818  (not an error: a peer may be missing)
    """A contender that cannot take part, and why."""


@dataclass(frozen=True)
class Size:
    """How long to measure."""

    rounds: int
    seconds: float  # that a round of one form takes
    num_envs: int
    lookbacks: tuple[int, int]  # of the single-asset and of the multi-asset market
    assets: int
    bars: int  # of the multi-asset market


FULL = Size(rounds=9, seconds=1.0, num_envs=64, lookbacks=(56, 7), assets=8, bars=6000)
QUICK = replace(FULL, rounds=3, seconds=0.3)
TINY = Size(rounds=2, seconds=0.01, num_envs=3, lookbacks=(2, 2), assets=2, bars=1000)


class Contender:
    """A process that plays rounds when asked to."""

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self.name = name
        self._log = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.peers.{name}", str(folder)],
            cwd=REPOSITORY,
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if name == OURS else self._log,
            text=True,
        )
        self.forms: list[str] = []

    def __enter__(self) -> "Contender":
        """Wait until it says which forms it plays."""
        try:
            self.forms = self._answer()
        except Absent:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._end()

    def play(self, form: str, seconds: float) -> float:
        """Return the steps per second of one round."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"form": form, "seconds": seconds}), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise Absent(self._last_words()) from error
        return float(self._answer()["steps_per_s"])

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        limit = threading.Timer(ANSWER_S, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if not line:
            raise Absent(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        return said[-1] if said else f"ended with exit code {self._process.returncode}"

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def make_venv(name: str) -> None:
    """Make a peer's virtual environment, unless it is there with these very requirements."""
    folder, wanted = VENVS / name, REQUIREMENTS / f"{name}.txt"
    installed = folder / "requirements.txt"
    if installed.is_file() and installed.read_text() == wanted.read_text():
        return
    print(f"making the virtual environment of {name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv = [sys.executable, "-m", "venv", str(folder)]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (venv, [*pip, "-r", str(wanted)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            errors = [line for line in said if line.startswith("ERROR")]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "absent.txt").write_text(f"not installable: {(errors or said)[-1]}")
            return
    shutil.copy(wanted, installed)


def python_of(name: str) -> Path:
    """Return the interpreter of a contender; raise Absent with the reason when it was not installed."""
    if name == OURS:
        return Path(sys.executable)
    folder = VENVS / name
    if (folder / "absent.txt").is_file():
        raise Absent((folder / "absent.txt").read_text())
    if not (folder / "requirements.txt").is_file():
        raise Absent("not installed; run with --peers")
    return folder / "bin" / "python"


def make_markets(size: Size) -> dict[str, Market]:
    """Return the embedded EURUSD bars and a random walk of several assets, both with a spread."""
    session = SessionSpec()
    names = [f"ASSET{number}" for number in range(size.assets)]
    walk = DataSpec(provider="synthetic", symbols=names, synthetic=SyntheticSpec(bars=size.bars))
    markets = {
        "eurusd": build_market(DataSpec(), FeatureSpec(lookback=size.lookbacks[0]), session),
        f"{size.assets}_assets": build_market(walk, FeatureSpec(lookback=size.lookbacks[1]), session),
    }
    return {name: replace(market, spread=market.close * SPREAD) for name, market in markets.items()}


def write_tape(folder: Path, market: Market, lookback: int, num_envs: int) -> None:
    """Write the market and the drawn actions for the contenders' processes."""
    rng = np.random.default_rng(0)
    arrays = {name: getattr(market, name) for name in ("open", "high", "low", "close", "features")}
    np.savez(
        folder / "tape.npz",
        **arrays,
        timestamp=market.timestamp.astype("datetime64[ns]"),
        lookback=np.int64(lookback),
        targets=rng.uniform(-1, 1, size=(DRAWN, num_envs, market.n_assets)).astype(np.float32),
        choices=rng.integers(0, 3, size=(DRAWN, num_envs)),
    )
    (folder / "market.pickle").write_bytes(pickle.dumps(market))


def race(names: tuple[str, ...], folder: Path, size: Size) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return steps per second by form, one figure a round, and the absent with their reasons."""
    speeds: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        present = []
        for name in names:
            try:
                present.append(stack.enter_context(Contender(name, python_of(name), folder)))
            except Absent as reason:
                absent[name] = str(reason)
        for number in range(size.rounds + 1):  # the first one warms up and counts for nothing
            print(f"round {number} of {size.rounds}", flush=True)
            for contender in [one for one in present if one.name not in absent]:
                try:
                    for form in contender.forms:
                        speed = contender.play(form, size.seconds)
                        if number:
                            speeds.setdefault(f"{contender.name} {form}", []).append(speed)
                except Absent as reason:
                    absent[contender.name] = str(reason)
    whole = {form: speed for form, speed in speeds.items() if form.split()[0] not in absent}
    return whole, absent


def ratios(speeds: dict[str, list[float]], reference: str) -> dict[str, float]:
    """Return the median over rounds of the reference's speed against each other form's in the same round."""
    ours = speeds[reference]
    return {
        form: float(f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.3g}")
        for form, theirs in speeds.items()
        if form != reference
    }


def show(title: str, speeds: dict[str, list[float]], absent: dict[str, str]) -> None:
    """Print one market's table."""
    batched, alone = (ratios(speeds, f"{OURS} {form}") for form in ("vector", "single"))
    columns = "".join(f"{name:>12}" for name in ("steps/s", "lowest", "highest", "vector is", "single is"))
    print(f"{title}\n{'form':32}{columns}")
    for form, measured in speeds.items():
        figures = (statistics.median(measured), min(measured), max(measured))
        times = "".join(f"{f'{of[form]:g} x' if form in of else '':>12}" for of in (batched, alone))
        print(f"{form:32}" + "".join(f"{figure:12,.0f}" for figure in figures) + times)
    for name, reason in absent.items():
        print(f"{name}: absent: {reason}")


def measure(size: Size, with_peers: bool) -> dict[str, Any]:
    """Measure both markets and return what the last line says."""
    result: dict[str, Any] = {"benchmark": "environments", "num_envs": size.num_envs, "markets": {}}
    for (title, market), lookback in zip(make_markets(size).items(), size.lookbacks, strict=True):
        peers = PEERS if market.n_assets == 1 else MULTI_ASSET_PEERS
        names = (OURS, *peers) if with_peers else (OURS,)
        with tempfile.TemporaryDirectory() as handed:
            write_tape(Path(handed), market, lookback, size.num_envs)
            speeds, absent = race(names, Path(handed), size)
        if OURS in absent:
            raise SystemExit(f"{OURS} did not run: {absent[OURS]}")
        seen = lookback * market.n_assets * len(market.feature_names)
        show(f"{title}: {market.n_bars} bars, {seen} features an observation", speeds, absent)
        result["markets"][title] = {
            "features_seen": seen,
            "vector_over": ratios(speeds, f"{OURS} vector"),
            "single_over": ratios(speeds, f"{OURS} single"),
            "steps_per_s": {form: round(statistics.median(figures)) for form, figures in speeds.items()},
            "absent": absent,
        }
    over_dummy = [one["vector_over"][f"{OURS} dummy"] for one in result["markets"].values()]
    return result | {"target": TARGET, "reached": min(over_dummy) >= TARGET}


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="make the peers' virtual environments first")
    parser.add_argument("--quick", action="store_true", help="a few short rounds; well under five minutes")
    parser.add_argument(
        "--tiny", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument("--alone", action="store_true", help="without peers")
    asked = parser.parse_args()
    if asked.peers:
        for name in PEERS:
            make_venv(name)
    started = time.perf_counter()
    size = TINY if asked.tiny else QUICK if asked.quick else FULL
    result = measure(size, with_peers=not asked.alone)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps(result | machine | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
