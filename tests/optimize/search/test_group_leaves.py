"""Leaves of a space that offer files of a config group."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest

from envs.fields import groups_of
from envs.plain import to_plain
from envs.rewards import RewardSpec
from optimize import compose
from optimize.cli.comments import options_of
from optimize.cli.yaml_files import conf_folder
from optimize.errors import BadInputError
from optimize.search.rules import check_space
from optimize.search.space import apply, expand, offered_values, parse_space, space_hash, suggest
from optimize.study.spec import StudySpec

OPTIONS: dict[str, dict[str, Any]] = {
    "net_log_return": to_plain(RewardSpec()),
    "differential_sharpe": to_plain(RewardSpec(name="differential_sharpe", clip=3.0)),
}
LEAF = {"choices": list(OPTIONS), "options": OPTIONS}
CLIP = {"choices": [3.0, 10.0], "when": {"reward": ["differential_sharpe"]}}


def test_the_keys_of_the_chosen_file_belong_to_the_trial() -> None:
    space, spec = parse_space({"reward": LEAF}), StudySpec(reward=RewardSpec(drawdown_penalty=5.0))
    values = suggest(space, optuna.trial.FixedTrial({"reward": "differential_sharpe"}))
    assert values == {"reward": "differential_sharpe"}
    chosen = apply(spec, expand(space, values)).reward
    assert (chosen.name, chosen.clip, chosen.drawdown_penalty) == ("differential_sharpe", 3.0, 1.0)


def test_a_condition_on_the_leaf_activates_keys_below_it() -> None:
    space = parse_space({"reward": LEAF, "reward.clip": CLIP})
    check_space(dataclasses.replace(StudySpec(), reward=RewardSpec(clip=10.0)), space)
    drawn = suggest(space, optuna.trial.FixedTrial({"reward": "differential_sharpe", "reward.clip": 10.0}))
    assert apply(StudySpec(), expand(space, drawn)).reward.clip == 10.0
    other = suggest(space, optuna.trial.FixedTrial({"reward": "net_log_return"}))
    assert other == {"reward": "net_log_return"}
    unread = CLIP | {"when": {"reward": ["net_log_return"]}}
    with pytest.raises(BadInputError, match=r"reads scale; search it when: \{reward: \[diff"):
        check_space(StudySpec(), parse_space({"reward": LEAF, "reward.clip": unread}))


def test_keys_of_the_files_belong_to_the_hash_and_to_the_offered_values() -> None:
    changed = {**OPTIONS, "differential_sharpe": OPTIONS["differential_sharpe"] | {"clip": 4.0}}
    first, second = (parse_space({"reward": LEAF | {"options": each}}) for each in (OPTIONS, changed))
    assert space_hash(first) != space_hash(second)
    assert offered_values(first, "reward.clip") == [10.0, 3.0]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"reward": ["net_log_return"]}, "space.reward is a group and no key"),
        ({"reward": {"choices": ["a"], "options": {"b": {}}}}, "space.reward.options has the keys of b"),
        ({"cost": {"choices": ["a"], "options": {"a": {}}}}, "space.cost may not be searched"),
        (
            {"reward": {"choices": ["a"], "options": {"a": {"name": "differential_sharpe"}}}},
            "reward, as it is configured, is not one of a: add its file to space.reward",
        ),
        ({"reward": {"choices": ["a"], "options": {"a": {"nam": "x"}}}}, "space.reward offers 'a': "),
        (
            {"agent": {"choices": ["a"], "options": {"a": {"total_timesteps": 7}}}},
            "space.agent may not offer 'a', which sets agent.total_timesteps: search train.passes",
        ),
    ],
)
def test_a_wrong_leaf_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        check_space(StudySpec(), parse_space(space))


@pytest.mark.slow
def test_a_composed_study_holds_the_keys_of_the_files(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "reward"
    mine.mkdir(parents=True)
    (mine / "sharper.yaml").write_text("name: differential_sharpe\nclip: 2.0\n", encoding="utf-8")
    words = ["name=x", f"hydra.searchpath=[{mine.parent}]", "reward.variance_floor=0.2"]
    spec = compose("study", [*words, "+space.reward=[net_log_return,sharper]"])
    options = spec.space["reward"]["options"]
    assert options["sharper"]["clip"] == 2.0
    assert options["net_log_return"]["variance_floor"] == options["sharper"]["variance_floor"] == 0.2
    check_space(spec, parse_space(spec.space))
    with pytest.raises(BadInputError, match=r"space.reward offers 'sharpest': choose of .*net_log_return, s"):
        compose("study", [*words, "+space.reward=[net_log_return,sharpest]"])


def _refusal(group: str, first: str, second: str) -> str:
    """Return why a space may not offer two files of a group, the first configured; empty where it may."""
    one, other = _offering(group, first), _offering(group, second)
    options = one.space[group]["options"] | other.space[group]["options"]
    space = {group: {"choices": list(options), "options": options}}
    try:
        check_space(dataclasses.replace(one, space=space), parse_space(space))
    except BadInputError as error:
        return str(error)
    return ""


@functools.cache
def _offering(group: str, choice: str) -> StudySpec:
    """Compose a study with a file of a group, the only one that its space offers."""
    words = [f"{group}={choice}", "~space", f"+space.{group}=[{choice}]"]
    return compose("study", ["name=x", "data=synthetic", *words])


@pytest.mark.slow
def test_every_pair_of_shipped_files_may_be_offered_unless_a_fixed_key_differs() -> None:
    """Files of the group env that leave the action to the agent offer the action that the study has."""
    groups = [group for group, found in groups_of(StudySpec).items() if found.fixed is None]
    folders = [conf_folder() / group for group in groups if (conf_folder() / group).is_dir()]
    refused = {
        (folder.name, *sorted(pair))
        for folder in folders
        if folder.name != "agent"
        for pair in itertools.permutations(sorted(set(options_of(folder)) - {"indicators"}), 2)
        if _refusal(folder.name, *pair)
    }
    fixed = {
        ("env", *sorted(("discrete", other))) for other in ("continuous", "default", "intraday", "long_only")
    }
    assert {folder.name for folder in folders} == {"agent", "env", "feature", "reward", "train"}
    assert refused == fixed
    assert "an agent has parameters of its own" in _refusal("agent", "ppo", "a2c")


@pytest.mark.slow
def test_the_file_that_is_completed_by_a_key_may_not_be_offered() -> None:
    """The file feature=indicators lists none until feature.indicators does."""
    offered = "+space.feature=[minimal,indicators]"
    spec = compose("study", ["name=x", "data=synthetic", "feature=minimal", "~space", offered])
    with pytest.raises(BadInputError, match=r"space.feature offers 'indicators': feature.indicators=\[\]"):
        check_space(spec, parse_space(spec.space))


def test_a_file_that_leaves_the_action_to_the_agent_may_be_offered() -> None:
    assert _refusal("env", "long_only", "default") == ""
    assert "which sets env.action" in _refusal("env", "discrete", "default")
