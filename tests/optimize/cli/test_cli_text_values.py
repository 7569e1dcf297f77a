"""Text that looks like a number or a boolean stays the text that was typed."""

from pathlib import Path
from typing import Any

import pytest

from optimize.cli.dispatch import compose_configs
from tests.tiers import mostly_slow


def study(*words: str) -> Any:
    (config,) = compose_configs("study", [*words] if words[0].startswith("name=") else ["name=x", *words])
    return config


NAMES = ["2024_01", "1e3", "true", "TRUE", "007", "1_000", "nan", "0x10"]


@pytest.mark.parametrize("name", mostly_slow([*NAMES, "'1e3'", "'true'"], "2024_01", "true", "'1e3'"))
def test_a_name_is_the_text_that_was_typed(name: str) -> None:
    assert study(f"name={name}").name == name.strip("'")


def test_folders_and_lists_are_too() -> None:
    assert study("output_dir=2024_01").output_dir == "2024_01"
    listed = "data.symbols=[ON,TRUE, 1_0,1e3,'a,b',0700]"
    assert study("data=file", "data.path=x.csv", listed).data.symbols == [
        "ON", "TRUE", "1_0", "1e3", "a,b", "0700",
    ]  # fmt: skip


def test_each_job_of_a_sweep_has_the_name_that_was_typed() -> None:
    assert [config.name for config in compose_configs("study", ["-m", "name=2024_01,2024_02,b"])] == [
        "2024_01", "2024_02", "b",
    ]  # fmt: skip


def test_a_file_means_the_words_that_stand_in_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    content = "# @package _global_\nname: 2024_01\ndata:\n  symbols: [ON, NO, 1_0]\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(content, encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "listed.yaml").write_text("provider: file\nsymbols: [ON, yes]\n", encoding="utf-8")
    (config,) = compose_configs("study", ["-cd", str(tmp_path), "experiment=mine"])
    assert (config.name, config.data.symbols) == ("2024_01", ["ON", "NO", "1_0"])
    (config,) = compose_configs("study", ["name=x", "-cd", str(tmp_path), "data=listed"])
    assert config.data.symbols == ["ON", "yes"]


def test_numbers_and_null_stay_what_they_are() -> None:
    config = study("n_trials=1_000", "data.symbols=[]", "data.start=null")
    assert (config.n_trials, config.data.symbols, config.data.start) == (1000, [], None)


def test_a_whole_number_may_have_an_exponent() -> None:
    config = study("agent.n_steps=1e2", "agent.learning_starts=2e3", "n_trials=1e1")
    assert [config.agent["n_steps"], config.agent["learning_starts"], config.n_trials] == [100, 2000, 10]
    assert {type(config.agent[key]) for key in ("n_steps", "learning_starts")} == {int}
    assert study("agent.learning_rate=1e-4").agent["learning_rate"] == 1e-4
