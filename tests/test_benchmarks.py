"""The environment benchmark runs without peers, names the absent ones, and compares round by round."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.environments import Absent, Contender, make_venv, python_of, race, ratios
from benchmarks.peers.walkforge import FULL_COSTS


@pytest.mark.slow
def test_it_ends_with_one_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["environments.py", "--tiny", "--alone"])
    environments.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["markets"]) == {"eurusd", "2_assets"}
    forms = {"vector", "sb3", "dummy", "sync", "vector_1", "single"}
    for market in result["markets"].values():
        assert set(market["steps_per_s"]) == {f"walkforge {form}" for form in forms}
        assert all(speed > 0 for speed in market["steps_per_s"].values())
        assert set(market["vector_over"]) == set(market["steps_per_s"]) - {"walkforge vector"}
    dummy = min(market["vector_over"]["walkforge dummy"] for market in result["markets"].values())
    assert result["reached"] == (dummy >= result["target"])


def test_a_ratio_is_the_median_of_rounds_and_not_the_ratio_of_medians() -> None:
    speeds = {"ours": [100.0, 10.0, 90.0], "theirs": [10.0, 5.0, 90.0]}
    assert ratios(speeds, "ours") == {"theirs": 2.0}


def test_every_cost_is_charged() -> None:
    replaced_by_the_data = {"spread_bps"}
    free = {field.name for field in dataclasses.fields(FULL_COSTS) if not getattr(FULL_COSTS, field.name)}
    assert free == replaced_by_the_data


def test_a_peer_without_a_virtual_environment_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    speeds, absent = race(("finrl",), tmp_path, environments.TINY)
    assert speeds == {}
    assert absent == {"finrl": "not installed; run with --peers"}


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_absent_with_the_reason_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "peer.txt").write_text("./no-such-folder\n")
    make_venv("peer")
    with pytest.raises(Absent, match=r"not installable: ERROR: .*no-such-folder"):
        python_of("peer")


def test_a_peer_that_dies_is_absent_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Absent, match=r"No module named benchmarks\.peers\.no_such_peer"):
        Contender("no_such_peer", Path(sys.executable), tmp_path).__enter__()
