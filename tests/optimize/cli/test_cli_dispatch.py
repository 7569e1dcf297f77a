from pathlib import Path

import pytest

from optimize.cli.dispatch import VERBS
from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run

AGENTS = sorted(path.stem for path in (REPOSITORY / "conf" / "agent").glob("[!_]*.yaml"))


def complete(run: Run, monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setenv("_HYDRA_COMP_SHELL", "bash")
    words = line.split()[1:2]
    code, out, err = run(*words, "-sc", "query=bash")
    assert (code, err) == (0, "")
    return out.split()


def test_tab_completes_verbs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(run, monkeypatch, "walkforge st") == ["study", "status"]
    assert complete(run, monkeypatch, "walkforge ") == list(VERBS)


def test_tab_completes_options_and_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(run, monkeypatch, "walkforge study agent=") == [f"agent={name}" for name in AGENTS]
    keys = complete(run, monkeypatch, "walkforge study worker.cou")
    assert keys == ["worker.count="]


def test_usage_lists_every_verb(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)
    assert run()[0] == 2


def test_a_composed_configuration_is_shown_and_no_folder_made(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("study", "experiment=quickstart", "--cfg", "job")
    assert code == 0
    assert "name: quickstart" in out
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_groups(run: Run) -> None:
    code, out, _ = run("study", "--help")
    assert code == 0
    assert f"agent       ppo; of {', '.join(AGENTS)}" in out
