"""Models of a trial that gave way to those of better ones, put back once a replay has proven them."""

import os
import shutil
import tempfile
from pathlib import Path

from optimize.agents.files import SPEC, WEIGHTS
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window
from optimize.study.export.bundle import Replay, returns_hash
from optimize.study.files import RETURNS, TRADES, read_returns, window_folder, write_window
from optimize.study.trial import Ground, Measured, Trained


class Restoration:
    """The models of a replay, kept beside a run's folder that has lost its own until they are proven."""

    def __init__(self, folder: Path, ground: Ground) -> None:
        self._folder = folder
        self._ground = ground
        self._proven = True
        self._aside = _aside(folder)

    def __enter__(self) -> "Restoration":
        return self

    def __exit__(self, *error: object) -> None:
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)

    def keep(self, window: Window, repeat: int, trained: Trained, measured: Measured, trades: Trades) -> None:
        """Store the model of one window, and compare what it earned with the stored session returns."""
        if self._aside is None:
            return
        stored = window_folder(self._folder, window.index, repeat) / RETURNS
        same = stored.is_file() and returns_hash([[read_returns(stored)[1]]]) == returns_hash([[measured]])
        self._proven = self._proven and same
        sessions = self._ground.market.session_date[slice(*window.test_sessions)]
        place = window_folder(self._aside, window.index, repeat)
        write_window(place, sessions, trained, measured, trades)

    def settle(self, replay: Replay) -> str | None:
        """Put the models into the run's folder and return what was done; None where none were missing."""
        if self._aside is None:
            if not _lacks_models(self._folder):
                return None
            return f"its models are not kept: {self._folder.parent.parent} is not writable"
        if not (replay.bitwise and self._proven):
            return "its models are not kept, as they do not come to the stored returns bit for bit"
        for place in sorted(self._aside.glob("windows/*/repeat_*")):
            target = self._folder / place.relative_to(self._aside)
            names = {path.name for path in place.iterdir()} - {RETURNS, TRADES}
            for name in sorted(names, key=lambda each: each == SPEC):  # the specification has the digests
                os.replace(place / name, target / name)
        return f"its models are back in {self._folder}: walkforge export can write their bundle"


def _aside(folder: Path) -> Path | None:
    """Return a new folder of the study where the run lacks its models and it can be written, else None."""
    study = folder.parent.parent
    if not _lacks_models(folder) or not os.access(study, os.W_OK):
        return None
    return Path(tempfile.mkdtemp(prefix=".replayed_", dir=study))


def _lacks_models(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.rglob(WEIGHTS))
