"""The files of a study: studies/NAME/trials/NUMBER_RUN/windows/K/repeat_R/, written before the next window.

Each run has a folder of its own, so that a run that lost its trial cannot spoil the files of its successor.
"""

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.lib import ArrowException

from optimize.agents.artifacts import SPEC
from optimize.atomic import replacing
from optimize.errors import BadInputError, DamagedReturnsError
from optimize.evaluate.drawdowns import SessionLevels
from optimize.evaluate.metrics import WindowMetrics
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.walkforward.run import WindowModel

SCALER = "scaler.npz"
RETURNS = "returns.parquet"
TRADES = "trades.parquet"
FINALISTS_FOLDER = "finalists"
FINALISTS_LOCK = ".lock"  # in that folder; held while finalists are retrained
SET_DIGITS = 12  # of a parameter set's hash in the name of its folder
LEVELS = ("drawdown", "lowest", "highest")  # columns of equity at the bar closes of a session
SUMMARY_KEY = b"walkforge.measured"
GONE = (None, errno.ENOENT, errno.ENOTDIR)  # None: the content is damaged; others, of the disk, may pass


def run_folder(study_folder: Path, number: int, run_uuid: str) -> Path:
    """Return the folder of one run of a trial."""
    return study_folder / "trials" / f"{number:04d}_{run_uuid[:8]}"


def run_folders(study_folder: Path, number: int) -> list[Path]:
    """Return the folders of all runs of a trial."""
    return sorted((study_folder / "trials").glob(f"{number:04d}_*"))


def finalist_folder(study_folder: Path, of_set: str, seed: int) -> Path:
    """Return the folder of a finalist's run, which holds its windows as that of a trial's run does."""
    return study_folder / FINALISTS_FOLDER / of_set[:SET_DIGITS] / f"seed_{seed:02d}"


def window_folder(folder: Path, window: int, repeat: int) -> Path:
    """Return the folder of one window and repeat inside a run's or a bundle's folder."""
    return folder / "windows" / str(window) / f"repeat_{repeat}"


def make_folder(folder: Path) -> None:
    """Create a folder of a study; raise BadInputError with the reason where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"output_dir: cannot create the folder {folder} ({error.strerror}): choose a writable path"
        ) from None


def write_window(
    folder: Path,
    sessions: NDArray[np.datetime64],
    trained: WindowModel,
    measured: WindowResult,
    trades: Trades,
) -> None:
    """Write the agent, its scaler, the trades and, last, the session returns of one window."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.agent.save(folder)
    trained.representation.save(folder / SCALER)
    write_table(folder / TRADES, trades)
    write_returns(folder / RETURNS, sessions, measured)


def write_returns(path: Path, sessions: NDArray[np.datetime64], measured: WindowResult) -> None:
    """Write the session returns of a test span, with its metrics in the file's own metadata."""
    levels = {} if measured.levels is None else {name: getattr(measured.levels, name) for name in LEVELS}
    returns = {"return": measured.returns, "return_zero_cost": measured.free_returns}
    table = pa.table({"session": sessions, **returns, **levels})
    summary = {
        "metrics": asdict(measured.metrics),
        "ruined": measured.ruined,
        "seconds": measured.seconds,
        "reward_active_share": measured.reward_active_share,
        "trained_steps": measured.trained_steps,
        "sharpe_validation": measured.sharpe_validation,
    }
    table = table.replace_schema_metadata({SUMMARY_KEY: json.dumps(summary).encode()})
    write_table(path, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Replace a Parquet file."""
    with replacing(path) as partial:
        pq.write_table(table, partial)


def read_returns(path: Path) -> tuple[NDArray[np.datetime64], WindowResult]:
    """Return sessions and results of a file of returns; raise DamagedReturnsError unless it is whole."""
    try:
        table = pq.read_table(path)
        summary = json.loads((table.schema.metadata or {})[SUMMARY_KEY])
        measured = WindowResult(
            metrics=WindowMetrics(**summary["metrics"]),
            returns=table["return"].to_numpy(),
            free_returns=table["return_zero_cost"].to_numpy(),
            ruined=summary["ruined"],
            seconds=summary["seconds"],
            reward_active_share=summary.get("reward_active_share"),  # not written by older versions
            trained_steps=summary.get("trained_steps"),
            sharpe_validation=summary.get("sharpe_validation"),
            levels=_levels(table),
        )
        return table["session"].to_numpy(), measured
    except (OSError, ValueError, KeyError, TypeError, ArrowException) as error:
        if getattr(error, "errno", None) not in GONE:
            raise
        said = str(error).partition("\n")[0][:100]
        raise DamagedReturnsError(
            f"{path} is missing or damaged ({said}): put it back from a copy; `walkforge doctor` lists "
            "such files"
        ) from None


def _levels(table: pa.Table) -> SessionLevels | None:
    if not set(LEVELS) <= set(table.column_names):
        return None
    return SessionLevels(**{name: table[name].to_numpy() for name in LEVELS})


def find_returns(path: Path) -> tuple[NDArray[np.datetime64], WindowResult] | None:
    """Return sessions and results of a file of returns, None where the file is missing or damaged."""
    try:
        return read_returns(path)
    except DamagedReturnsError:
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        text = json.dumps(content, indent=2, sort_keys=True, default=str)
        partial.write_text(f"{text}\n", encoding="utf-8")


def adopt_files(earlier: Path, folder: Path) -> None:
    """Copy the finished windows of a lost run into the folder of the run that took over."""
    if earlier.is_dir():
        shutil.copytree(earlier, folder, dirs_exist_ok=True)


def holds_agent(folder: Path) -> bool:
    """Return whether the folder of a window holds its agent, scaler and returns."""
    return all((folder / name).is_file() for name in (SPEC, SCALER, RETURNS))


def drop_weights(folder: Path) -> None:
    """Delete the models of a run and keep its returns and trades."""
    for path in folder.glob("windows/*/repeat_*/*"):
        if path.name not in (RETURNS, TRADES):
            path.unlink(missing_ok=True)
