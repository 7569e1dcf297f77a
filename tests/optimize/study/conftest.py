"""Exported bundles for the tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.study.export.best import export_best
from tests.optimize.study.bundles import Exports, run_all, tiny_spec, write_prices
from tests.optimize.study.databases import close_studies, small

__all__ = ["small"]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("bundle")
    prices = write_prices(folder / "tiny_prices.parquet")
    handle = run_all(tiny_spec(folder, prices))
    yield Exports(handle, prices, export_best(handle.engine, handle.spec.output_dir, "tiny", 2))
    handle.engine.dispose()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_studies()


@pytest.fixture
def bundle(exports: Exports, tmp_path: Path) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(exports.exported[0].folder, copy)
    return copy
