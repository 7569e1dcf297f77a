"""Exported bundles for the tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.bundles import export
from tests.optimize.bundles.in_process import IN_A_NEW_PROCESS, replays_in_this_process
from tests.optimize.study.bundles import Exports, export_tiny
from tests.optimize.study.databases import close_studies, small

__all__ = ["small"]


@pytest.fixture(scope="module", autouse=True)
def replays_without_a_new_process() -> Iterator[None]:
    """Replay exported bundles in this process; `replays_in_a_new_process` restores the real replay."""
    with replays_in_this_process():
        yield


@pytest.fixture
def replays_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "replay_in_new_process", IN_A_NEW_PROCESS)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Yield one finished study and its two best bundles, which no test may change."""
    with replays_in_this_process():
        exported = export_tiny(tmp_path_factory.mktemp("bundle"))
    yield exported
    exported.context.engine.dispose()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_studies()


@pytest.fixture
def bundle(exports: Exports, tmp_path: Path) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(exports.exported[0].folder, copy)
    return copy
