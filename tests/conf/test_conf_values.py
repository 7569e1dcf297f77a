"""Values of the agent and of ranges: widths of layers, and numbers with an exponent."""

from pathlib import Path

import pytest

from envs.plain import from_plain, to_plain
from optimize import compose
from optimize.errors import BadInputError
from optimize.search.parse import Choices, Range
from optimize.search.rules import check_space
from optimize.search.space import parse_space
from optimize.study.spec import StudySpec


def searchpath(tmp_path: Path, text: str) -> list[str]:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text(f"# @package _global_\n{text}", encoding="utf-8")
    return ["name=x", f"hydra.searchpath=[{folder.parent}]", "experiment=one"]


def test_widths_are_set_on_the_command_line_and_in_yaml(tmp_path: Path) -> None:
    typed = compose("study", ["name=x", "agent.net=[256,128]"])
    written = compose("study", searchpath(tmp_path, "agent:\n  net: [256, 128]\n"))
    assert typed.agent.net == written.agent.net == [256, 128]
    assert typed.agent.widths == (256, 128)
    assert from_plain(StudySpec, to_plain(typed)) == typed


@pytest.mark.parametrize("net", ["[0]", "[64,x]", "[1.5]", "huge", "7"])
def test_other_nets_are_refused(net: str) -> None:
    with pytest.raises(BadInputError, match=r"agent.net=.*a list of 1 to 16 widths from 1 to 8192, such as"):
        compose("study", ["name=x", f"agent.net={net}"])


def test_a_space_offers_names_and_widths_of_nets() -> None:
    words = ["name=x", "space.agent.net=[linear,[256,256]]"]
    spec = compose("study", words)
    space = parse_space(spec.space)
    check_space(spec, space)
    found = {each.path: each.domain for each in space.parameters}
    assert found["agent.net"] == Choices(("linear", [256, 256]))


def test_a_number_with_an_exponent_is_a_number_in_yaml_and_in_ranges(tmp_path: Path) -> None:
    text = (
        'agent:\n  learning_rate: "1e-4"\n'
        'space:\n  agent:\n    learning_rate: {low: "1e-5", high: "1e-3", log: true}\n'
        '    gamma: ["9e-1", "99e-2"]\n'
    )
    spec = compose("study", [*searchpath(tmp_path, text), "agent.ent_coef=5e-2"])
    assert spec.agent.hyperparameters["learning_rate"] == 1e-4
    assert spec.agent.hyperparameters["ent_coef"] == 0.05
    found = {each.path: each.domain for each in parse_space(spec.space).parameters}
    assert found["agent.learning_rate"] == Range(1e-5, 1e-3, None, True)
    assert found["agent.gamma"] == Choices((0.9, 0.99))
    assert compose("study", ["name=x", "'agent.learning_rate=\"1e-4\"'".strip("'")]).agent == compose(
        "study", ["name=x", "agent.learning_rate=1e-4"]
    ).agent  # fmt: skip


def test_a_whole_number_with_an_exponent_is_one_in_yaml_as_on_the_command_line(tmp_path: Path) -> None:
    text = (
        "n_trials: 1e1\nphase:\n  timeframe:\n    n_trials: 8.0\nagent:\n  n_steps: 1e2\n"
        "space:\n  agent:\n    n_steps: [1e2, 2e2]\n    buffer_size: {low: 1e2, high: 2e2, step: 1e1}\n"
    )
    spec = compose("study", searchpath(tmp_path, text))
    found = [spec.n_trials, spec.phase.timeframe.n_trials, spec.agent.hyperparameters["n_steps"]]
    assert [repr(number) for number in found] == ["10", "8", "100"]
    domains = {each.path: each.domain for each in parse_space(spec.space).parameters}
    assert domains["agent.buffer_size"] == Range(100, 200, 10, integer=True)
    assert repr(domains["agent.n_steps"]) == "Choices(values=(100, 200))"


def test_a_fraction_for_a_whole_number_is_refused_in_yaml(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"line 2: n_trials='10.5' is not allowed: .* a whole number"):
        compose("study", searchpath(tmp_path, "n_trials: 10.5\n"))


def test_a_list_over_a_range_of_an_earlier_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text = "space:\n  agent:\n    gamma: {low: 0.5, high: 0.9}\n"
    with pytest.raises(BadInputError, match=r"one.yaml: a list stands at a key .* `space=NAME` chooses"):
        compose("study", searchpath(tmp_path, text))


@pytest.mark.parametrize(
    "words", [["agent.weight_decay=0"], ["agent.weight_decay=0", "space.agent.weight_decay=[0,1]"]]
)
def test_a_whole_number_is_a_number(words: list[str]) -> None:
    spec = compose("study", ["name=x", *words])
    assert type(spec.agent.weight_decay) is float
    check_space(spec, parse_space(spec.space))
