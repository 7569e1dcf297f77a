"""A finished study with baselines, and a copy of it that a test may change."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.study.context import StudyContext
from optimize.study.launch.markets import store_baselines
from optimize.study.spec import StudySpec
from tests.optimize.study.databases import close_studies
from tests.optimize.study.studies import ground_of, opened, play, small_spec


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    """Yield a finished study, which no test may change."""
    context = opened(small_spec(tmp_path_factory.mktemp("finalists"), n_trials=3))
    windowed = ground_of(context, context.spec)
    store_baselines(context, {("1h", 2, "{}"): windowed})
    play(context)
    yield context
    close_studies()


@pytest.fixture
def study(finished: StudyContext, tmp_path: Path) -> StudySpec:
    """Return a copy of the finished study in a folder of its own."""
    source = Path(finished.spec.output_dir).parent
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    url = f"sqlite:///{tmp_path / 'walkforge.db'}"
    database = dataclasses.replace(finished.spec.database, url=url)
    return dataclasses.replace(finished.spec, output_dir=str(tmp_path / "studies"), database=database)
