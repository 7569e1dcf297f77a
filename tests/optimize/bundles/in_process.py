"""Exports without a fresh process: the replay that proves a bundle runs in the process of the tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from optimize.bundles import export
from optimize.bundles.replay import Replay, WindowedMarkets, replay_bundle, trust_bundle
from optimize.errors import WalkforgeError

IN_A_NEW_PROCESS = export.replay_in_new_process


def replay_here(folders: Sequence[Path]) -> Iterator[Replay | WalkforgeError]:
    """Replay bundles as the new process does, in this one."""
    markets: WindowedMarkets = {}
    for folder in folders:
        try:
            trust_bundle(folder)
            yield replay_bundle(folder, markets=markets)
        except WalkforgeError as error:
            yield error


@contextmanager
def replays_in_this_process() -> Iterator[None]:
    """Replay the bundles of an export without a new process, which would take 3 CPU seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "replay_in_new_process", replay_here)
        yield
