"""`walkforge explain` describes each key, group and registry; the help of a verb shows its keys."""

import re
from pathlib import Path

import pytest

from envs.fields import keys_of
from envs.rewards import REWARDS
from optimize.agents.registry import ALGORITHMS
from optimize.cli.explain import declared_in
from optimize.cli.registered_values import VALUES_OF
from optimize.cli.verbs import VERBS
from optimize.data.features import list_features
from optimize.study.spec import StudySpec
from tests.optimize.cli.conftest import Run
from tests.optimize.test_extension_keys import CODE

WIDTH = 100
AGENT = """
from stable_baselines3 import PPO

from optimize.agents.registry import agent


@agent("knob_ppo")
class KnobPPO(PPO):
    def __init__(self, policy, env, my_knob: float = 0.5, **others):
        super().__init__(policy, env, **others)
"""


def test_a_key_has_its_meaning_type_range_default_role_and_place(run: Run) -> None:
    code, out, err = run("explain", "feature.lookback")
    facts = {line[2:14].strip(): line[14:] for line in out.splitlines()[2:]}
    assert (code, err) == (0, "")
    assert out.startswith("feature.lookback: Bars in one observation.\n")
    assert facts["type"].strip() == "a whole number"
    assert facts["range"].strip() == "at least 1 (bars)"
    assert facts["default"].strip() == "1"
    assert facts["role"].strip().startswith("run: ")
    assert "space.feature.lookback" in facts["searched"]
    assert facts["resumed"].strip().startswith("may not change")
    assert facts["files"].strip().startswith("conf/feature/_base.yaml:2  lookback: 1")
    assert facts["declared in"] == "optimize.data.features.spec.FeatureSpec"


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("agent.n_steps", "256, of agent=ppo"),
        ("agent.tau", "that of the algorithm in stable-baselines3"),
        ("data.timeframe", "1h, of data=embedded"),
        ("seed", "0"),
        ("name", "none: to be given"),
    ],
)
def test_the_default_is_the_one_that_a_study_uses(run: Run, key: str, default: str) -> None:
    _, out, _ = run("explain", key)
    assert re.search(r"^  default +(.*)$", out, re.MULTILINE)[1] == default  # type: ignore[index]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("window.count", "a space may not tune the exam"),
        ("data.path", "a space may not tune the exam"),
        ("worker.devices", "it decides how a study runs"),
        ("sampler.name", "it decides which trials are tried"),
    ],
)
def test_a_key_that_may_not_be_searched_has_the_reason(run: Run, key: str, reason: str) -> None:
    _, out, _ = run("explain", key)
    assert f"no: {reason}" in out


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        (
            "agent.learning_rate",
            [
                "typed as +'~space.agent.learning_rate' '.space.agent.learning_rate=.VALUE,VALUE.' or "
                "'space.agent.learning_rate=.low",
                "default +.low:0.005,high:0.03,log:true., of space=ppo",
                "left out by space.agent.learning_rate=null",
                "each value +a number",
            ],
        ),
        (
            "feature.indicators",
            [
                r"typed as +'\+space.feature.indicators=.VALUE,VALUE.'\n",
                "default +not searched by space=ppo",
                "see also +`walkforge explain feature.indicators`",
            ],
        ),
        ("agent.gamma", [r"'~space.agent.gamma' '\+space.agent.gamma=.low:"]),
        ("window.count", ["searched +no: a space may not tune the exam"]),
    ],
)
def test_a_key_of_a_space_has_its_forms_and_the_facts_of_its_values(
    run: Run, key: str, facts: list[str]
) -> None:
    code, out, err = run("explain", f"space.{key}")
    assert (code, err) == (0, "")
    for fact in facts:
        assert re.search(fact, out.replace("\n" + " " * 14, " ")), fact


def test_a_group_lists_its_options_with_a_line_each_and_its_keys(run: Run) -> None:
    code, out, _ = run("explain", "reward")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert {words[0] for words in lines if words} >= {*REWARDS, "reward.clip", "reward.name"}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("feature.indicators", [each.name for each in list_features()]),
        ("reward.name", list(REWARDS)),
        ("agent.name", list(ALGORITHMS)),
    ],
)
def test_features_rewards_and_agents_are_listed(run: Run, key: str, names: list[str]) -> None:
    code, out, _ = run("explain", key)
    listed = out.partition(f"choices of {key}\n")[2]
    assert code == 0
    assert sorted(line.split()[0] for line in listed.splitlines() if line[2:3].strip()) == sorted(names)


def test_without_a_key_every_key_of_a_study_is_shown_below_its_group(run: Run) -> None:
    code, out, _ = run("explain")
    group, found = "", []
    for line in out.partition("\nkeys of single verbs")[0].splitlines()[1:]:
        if line and not line.startswith(" "):
            group = f"{line.partition(':')[0]}."
        elif line[2:3].strip():
            found.append(f"{group}{line.split()[0]}")
    assert code == 0
    assert sorted(found) == sorted(keys_of(StudySpec))


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("feature.lookbak", "did you mean feature.lookback"),
        ("commission_bps", "did you mean cost.commission_bps"),
        ("rewards", "did you mean reward"),
        ("rsi", "`walkforge explain feature.indicators` lists all"),
        ("cost.financing", "is in the meaning of cost.borrow_rate (Financing of a debt: "),
        ("q.q", "`walkforge explain` lists all keys"),
    ],
)
def test_a_wrong_key_is_one_line_with_the_closest_ones(run: Run, typed: str, near: str) -> None:
    code, out, err = run("explain", typed)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"walkforge: there is no key {typed!r}: ")
    assert near in err


def test_keys_of_a_single_verb_are_explained(run: Run) -> None:
    _, out, _ = run("explain", "watch")
    assert out.startswith("watch: true: again every two seconds")
    assert "verbs       status" in out


def test_keys_and_features_of_an_extension_are_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_wave.py").write_text(CODE, encoding="utf-8")
    _, out, _ = run("explain", "feature.wave_length", "extensions=[my_wave.py]")
    assert out.startswith("feature.wave_length: Length of the wave.\n")
    assert "from 2 to 50 (bars)" in out
    assert out.rstrip().endswith(f"declared in {tmp_path / 'my_wave.py'}")
    _, out, _ = run("explain", "feature.indicators", "extensions=[my_wave.py]")
    assert "\n  wave " in out


def test_arguments_of_an_agent_of_an_extension_are_explained_and_listed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_knob.py").write_text(AGENT, encoding="utf-8")
    _, out, _ = run("explain", "agent.my_knob", "extensions=[my_knob.py]")
    facts = {line[2:14].strip(): line[14:].strip() for line in out.splitlines()[2:]}
    assert out.startswith("agent.my_knob: Argument of the agent knob_ppo.\n")
    assert (facts["type"], facts["default"]) == ("a number", "0.5")
    assert facts["declared in"] == str(tmp_path / "my_knob.py")
    _, out, _ = run("study", "--help", "extensions=[my_knob.py]", "agent.name=knob_ppo")
    assert "  agent.my_knob=0.5 " in out


def test_the_help_lists_unset_keys_of_the_chosen_features(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_wave.py").write_text(CODE, encoding="utf-8")
    for verb in ("study", "data"):
        _, out, _ = run(verb, "--help", "extensions=[my_wave.py]", "feature.indicators=[wave]")
        assert re.search(r"feature.wave_length=5 +# Length of the wave\.", out), verb
        _, out, _ = run(verb, "--help", "extensions=[my_wave.py]")
        assert "wave_length" not in out


def test_every_key_names_a_spec_that_declares_it() -> None:
    assert declared_in("worker.count") == "optimize.study.spec.WorkerSpec"
    assert declared_in("seed") == "optimize.search.spec.SearchSpec"
    assert all(declared_in(path).rpartition(".")[2].endswith("Spec") for path in keys_of(StudySpec))


def test_listed_keys_are_keys() -> None:
    assert VALUES_OF.keys() <= keys_of(StudySpec).keys()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_explains_every_key_within_a_hundred_columns(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    lines = out.partition("\nkeys\n")[2].splitlines()
    long = [
        line
        for line in out.splitlines()
        if len(line) > WIDTH and not line.startswith("  feature.indicators=")
    ]
    bare = [
        line
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("  ") and "=" in line and "#" not in line and not below.lstrip().startswith("#")
    ]
    assert (code, long, bare) == (0, [], [])


def test_files_of_a_verb_under_the_name_of_a_group_of_keys_are_told_apart(run: Run) -> None:
    _, out, _ = run("explain", "gate")
    titles = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert titles == [
        "gate: Limits beyond which a result is not ranked.",
        "keys of a study",
        "options of `walkforge export`: gate=NAME chooses a file of its own keys, below",
        "keys of `walkforge export`, which these files set",
    ]
    study, options, keys = out.split("`walkforge export`")[0], *out.split("`walkforge export`")[1:]
    assert "  gate.max_drawdown " in study
    assert "  strict " in options
    assert "  max_drawdown " in keys
    assert "  beat " in keys
