"""Restore deleted models of a trial, once a replay has trained them again to equal results."""

import os
from contextlib import ExitStack
from pathlib import Path

from optimize.agents.artifacts import SPEC, WEIGHTS
from optimize.atomic import partial_folder, put_file
from optimize.bundles.replay import Replay, returns_hash
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window
from optimize.walkforward.files import RETURNS, TRADES, read_returns, window_folder, write_window
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import WindowModel


class Restoration:
    """The models of a replay, kept beside the folder of a run without models until they are verified."""

    def __init__(self, folder: Path, windowed: WindowedMarket) -> None:
        self._folder = folder
        self._windowed = windowed
        self._proven = True
        self._aside: Path | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Restoration":
        if _can_restore(self._folder):
            self._aside = self._stack.enter_context(partial_folder(_beside(self._folder)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def keep(
        self, window: Window, repeat: int, trained: WindowModel, measured: WindowResult, trades: Trades
    ) -> None:
        """Store the model of one window, and compare its returns with the stored session returns."""
        if self._aside is None:
            return
        stored = window_folder(self._folder, window.index, repeat) / RETURNS
        # `walkforge prune` frees the file as well: the score alone proves the models then.
        same = not stored.exists() or returns_hash([[read_returns(stored)[1]]]) == returns_hash([[measured]])
        self._proven = self._proven and same
        sessions = self._windowed.market.session_date[slice(*window.test_sessions)]
        place = window_folder(self._aside, window.index, repeat)
        write_window(place, sessions, trained, measured, trades)

    def settle(self, replay: Replay) -> str | None:
        """Move the verified models into the run's folder; return the outcome, None if none were missing."""
        if self._aside is None:
            if not _lacks_models(self._folder):
                return None
            return f"its models are not kept: {self._folder.parent.parent} is not writable"
        if not (replay.bitwise and self._proven):
            return "its models are not kept, as they do not come to the stored returns bit for bit"
        for place in sorted(self._aside.glob("windows/*/repeat_*")):
            target = self._folder / place.relative_to(self._aside)
            names = {path.name for path in place.iterdir()}
            names -= {name for name in (RETURNS, TRADES) if (target / name).exists()}
            target.mkdir(parents=True, exist_ok=True)
            for name in sorted(names, key=lambda each: each == SPEC):  # SPEC last: it holds the digests
                put_file(place / name, target / name)
        return f"its models are back in {self._folder}: walkforge export can write their bundle"


def _can_restore(folder: Path) -> bool:
    """Return whether a run lacks its models and its study's folder is writable."""
    return _lacks_models(folder) and os.access(folder.parent.parent, os.W_OK)


def _beside(folder: Path) -> Path:
    """Return a path in the study's folder, as a partial folder under trials/ would look like a run's."""
    return folder.parent.parent / folder.name


def _lacks_models(folder: Path) -> bool:
    return folder.parent.is_dir() and not any(folder.rglob(WEIGHTS))
