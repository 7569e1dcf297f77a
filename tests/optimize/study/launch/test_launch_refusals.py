"""Settings that are refused before the study is stored or a market is built."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.spec import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import DatabaseSpec, check_reachable
from optimize.errors import BadInputError
from optimize.study.launch import markets as markets
from optimize.study.launch import run as runner
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec, resolve
from tests.optimize.study.studies import opened, small_spec

QUIET = Console(quiet=True)


def two_symbols(spec: StudySpec) -> StudySpec:
    data = DataSpec(provider="synthetic", symbols=["A", "B"], synthetic=SyntheticSpec(bars=1440))
    return dataclasses.replace(spec, data=data)


@pytest.mark.parametrize("kind", ["single", "two"])
def test_a_new_name_that_differs_by_its_case_alone_is_refused(tmp_path: Path, kind: str) -> None:
    first = "small" if kind == "single" else "small.timeframe"
    opened(small_spec(tmp_path, name=first))
    with pytest.raises(
        BadInputError, match=r"name='Small' differs from the study 'small' .* by its case alone"
    ):
        run_study(small_spec(tmp_path, name="Small"), QUIET)
    assert not (tmp_path / "studies" / "Small").exists()


@pytest.mark.parametrize(("agent", "action"), [("dqn", "auto"), ("ppo", "discrete")])
def test_one_choice_for_several_assets_is_refused_before_the_name_is_taken(
    tmp_path: Path, agent: str, action: str
) -> None:
    spec = small_spec(tmp_path, agent=AgentSpec(agent), env=EnvSpec(action=action), space={})
    with pytest.raises(
        BadInputError, match=r"with 2 assets: set env\.action=continuous .* agent=ppo"
    ) as caught:
        run_study(resolve(two_symbols(spec)), QUIET)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "walkforge.db").exists()
    assert not (tmp_path / "studies").exists()


@pytest.fixture
def no_market(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*args: Any, **options: Any) -> None:
        raise AssertionError("looked at the data before the database")

    monkeypatch.setattr(runner, "inspect_bars", build)
    monkeypatch.setattr(markets, "build_windowed_market", build)


@pytest.mark.usefixtures("no_market")
def test_a_server_that_is_away_is_refused_before_any_market(tmp_path: Path) -> None:
    away = DatabaseSpec(url="postgresql://nobody@127.0.0.1:1/walkforge")
    with pytest.raises(BadInputError, match="start the server, or mend host and port"):
        run_study(small_spec(tmp_path, database=away), QUIET)


@pytest.mark.usefixtures("no_market")
def test_a_file_that_is_no_database_is_refused_before_any_market(tmp_path: Path) -> None:
    (tmp_path / "walkforge.db").write_text("a letter, not a database" * 100)
    with pytest.raises(BadInputError, match="is not an SQLite database"):
        run_study(small_spec(tmp_path), QUIET)


def test_a_file_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    check_reachable(DatabaseSpec(url=f"sqlite:///{tmp_path / 'new' / 'walkforge.db'}"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_market")
def test_a_folder_for_temporary_files_without_room_for_sockets_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "deep/" * 20)
    with pytest.raises(BadInputError, match=r"TMPDIR=/tmp/deep/.* too long .* at most 71 bytes"):
        run_study(small_spec(tmp_path), QUIET)
