import sys
from pathlib import Path

import pytest

from optimize.cli.dispatch import compose_configs
from optimize.data.calendars.spec import SessionSpec
from optimize.schemas.studies import to_spec


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["walkforge"])


def session_of(*overrides: str) -> SessionSpec:
    (config,) = compose_configs("study", ["name=x", *overrides])
    return to_spec(config).session


@pytest.mark.parametrize("group", ["auto", "crypto", "fx", "us_equity"])
def test_every_group_states_the_defaults_in_full(group: str, tmp_path: Path) -> None:
    session = session_of(f"session={group}")
    assert session == SessionSpec(calendar=session.calendar)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("session.exit_time=15:30", SessionSpec(exit_time="15:30")),
        ("session.exit_time='15:30'", SessionSpec(exit_time="15:30")),
        ("session.exit_time=09:45", SessionSpec(exit_time="09:45")),
        ("session.flat_overnight=false", SessionSpec(flat_overnight=False)),
        ("session.flat_overnight=true", SessionSpec(flat_overnight=True)),
        ("session.flat_overnight=null", SessionSpec()),
        ("session.exit_minutes_before_close=5", SessionSpec(exit_minutes_before_close=5)),
        ("session.calendar=XLON", SessionSpec(calendar="XLON")),
    ],
)
def test_session_keys_can_be_typed(override: str, expected: SessionSpec) -> None:
    assert session_of(override) == expected


def test_holding_overnight_is_a_group_of_its_own() -> None:
    assert session_of("session=us_equity_overnight") == SessionSpec(calendar="XNYS", flat_overnight=False)


def test_an_unquoted_exit_time_in_a_file_is_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "session"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("calendar: XNYS\nexit_time: 15:30\n", encoding="utf-8")
    here = session_of(f"hydra.searchpath=[file://{folder.parent}]", "session=mine")
    assert here == SessionSpec(calendar="XNYS", exit_time="15:30")  # YAML 1.1 reads 930 seconds
