"""Trees of ranges and choices are parsed, refused, suggested and applied."""

import dataclasses
import json
from typing import Any

import optuna
import pytest

from envs.errors import BadInputError
from optimize.search.parse import in_order_of
from optimize.search.space import (
    Choices,
    Range,
    apply,
    grid,
    narrow,
    parse_space,
    space_hash,
    suggest,
)
from tests.optimize.search.specs import Study

TREE: dict[str, Any] = {
    "feature": {"lookback": {"low": 4, "high": 32, "step": 4}},
    "agent": {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "n_steps": [256, 512, 1024],
        "net": {"choices": ["small", "medium"], "when": {"agent.n_steps": [256, 512]}},
        "gamma": None,
    },
    "env": None,
}


def test_tree_becomes_parameters_in_order() -> None:
    space = parse_space(TREE)
    assert [each.path for each in space.parameters] == [
        "feature.lookback",
        "agent.learning_rate",
        "agent.n_steps",
        "agent.net",
    ]
    assert [each.domain for each in space.parameters] == [
        Range(4, 32, 4, integer=True),
        Range(1e-5, 1e-2, log=True),
        Choices((256, 512, 1024)),
        Choices(("small", "medium")),
    ]
    assert space.parameters[3].when == (("agent.n_steps", (256, 512)),)


def test_a_range_is_whole_only_without_floats() -> None:
    domains = [
        parse_space({"a": leaf}).parameters[0].domain
        for leaf in ({"low": 1, "high": 3}, {"low": 1, "high": 3.0}, {"low": 0, "high": 1, "step": 0.25})
    ]
    assert domains == [Range(1, 3, 1, integer=True), Range(1.0, 3.0), Range(0.0, 1.0, 0.25)]


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ({"low": 2, "high": 1}, "space.a.x is the empty range 2..1"),
        ({"low": 1, "high": 1}, "space.a.x is the empty range 1..1"),
        ({"low": 0, "high": 1, "log": True}, "log scale: low must be > 0"),
        ({"low": 1, "high": 9, "step": 2, "log": True}, "both log and step"),
        ({"low": 0.0, "high": 1.0, "step": 0}, "step 0: it must be > 0"),
        ({"low": 0, "high": 10, "step": 4}, "set high 8"),
        ({"low": 0.1, "high": 1.0, "step": 0.4}, "set high 0.9"),
        ({"low": 1}, "space.a.x.high is None"),
        ({"low": True, "high": 2}, "space.a.x.low is True"),
        ({"low": "small", "high": 1.0}, "space.a.x.low is the text 'small'.*1.0e-5"),
        ({"low": 0, "high": float("inf")}, "finite"),
        ({"low": 0, "high": 1, "log": "yes"}, "write true or false"),
        ({"low": 0, "high": 1, "stpe": 1}, "space.a.x.stpe is not known here.*low, high, step"),
        ({"choices": [1], "low": 0}, "space.a.x.low is not known here.*choices, when"),
        ({"choices": []}, "at least one value"),
        ({"choices": "small"}, "write a list"),
        ([], "at least one value"),
        ([1, 2, 1.0], r"choice 1.0 twice"),
        ([{"a": 64}], r"choice \{'a': 64\}: allowed are"),
        ([[["a"]]], r"choice \[\['a'\]\]: allowed are"),
        ([["a"], ["b"], ["a"]], r"choice \['a'\] twice"),
        ([float("nan")], "choice nan"),
        (3, "is 3: write a list"),
    ],
)
def test_bad_leaves_are_refused(leaf: object, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        parse_space({"a": {"x": leaf}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"b": [1]}, "names 'b', no parameter of the space: it has parent, range, child"),
        ({"child": [1]}, "is in a circle of conditions among child: drop one"),
        ({"range": [1]}, "names the range range"),
        ({"parent": [1, 4]}, r"lists 4, no choice of parent: \[1, 2\]"),
        ({"parent": 1}, "write a list"),
        ("parent", "write {path"),
    ],
)
def test_bad_conditions_are_refused(when: object, message: str) -> None:
    child = {"choices": [0, 1], "when": when}
    tree = {"parent": [1, 2], "range": {"low": 0, "high": 1}, "child": child}
    with pytest.raises(BadInputError, match=message):
        parse_space(tree)


def test_parents_come_before_children_and_else_the_order_stays() -> None:
    leaf = {"choices": [0, 1]}
    tree = {
        "z": leaf,
        "grandchild": leaf | {"when": {"child": [1], "z": [0]}},
        "child": leaf | {"when": {"parent": [1]}},
        "parent": leaf,
        "a": leaf,
    }
    assert [each.path for each in parse_space(tree).parameters] == ["z", "parent", "a", "child", "grandchild"]
    ordered = {path: tree[path] for path in ("z", "parent", "child", "a", "grandchild")}
    assert [each.path for each in parse_space(ordered).parameters] == list(ordered)
    assert in_order_of(parse_space(tree), parse_space(ordered)) == parse_space(ordered)


def test_a_path_written_twice_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"space.a.x is defined twice"):
        parse_space({"a": {"x": [1]}, "a.x": [2]})


def test_suggest_asks_for_active_parameters_only() -> None:
    space = parse_space(TREE)
    fixed = {"feature.lookback": 8, "agent.learning_rate": 1e-3, "agent.net": "medium"}
    active = suggest(space, optuna.trial.FixedTrial({**fixed, "agent.n_steps": 512}))
    inactive = suggest(space, optuna.trial.FixedTrial({**fixed, "agent.n_steps": 1024}))
    assert active == {**fixed, "agent.n_steps": 512}
    assert "agent.net" not in inactive
    assert inactive["agent.n_steps"] == 1024


def test_suggested_values_keep_type_and_range() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [suggest(parse_space(TREE), study.ask()) for _ in range(30)]
    assert {type(each["feature.lookback"]) for each in values} == {int}
    assert {each["feature.lookback"] for each in values} <= set(range(4, 33, 4))
    assert all(("agent.net" in each) == (each["agent.n_steps"] != 1024) for each in values)


def test_apply_replaces_nested_fields_and_hyperparameters() -> None:
    spec = Study()
    changed = apply(
        spec, {"feature.lookback": 16, "agent.net": "small", "agent.gamma": 0.9, "agent.n_steps": 512}
    )
    assert changed.feature.lookback == 16
    assert changed.agent.net == "small"
    assert changed.agent.hyperparameters == {"learning_rate": 3e-4, "n_steps": 512, "gamma": 0.9}
    assert spec == Study()
    assert dataclasses.replace(changed, feature=spec.feature, agent=spec.agent) == spec


def test_apply_runs_the_checks_of_the_specs() -> None:
    with pytest.raises(BadInputError, match=r"feature\.lookback=0 is not allowed"):
        apply(Study(), {"feature.lookback": 0})


@pytest.mark.parametrize(
    "path", ["feature.lookbak", "features.lookback", "env.fill.x", "agent.hyperparameters.x"]
)
def test_apply_refuses_a_key_that_does_not_exist(path: str) -> None:
    with pytest.raises(BadInputError, match="has no key"):
        apply(Study(), {path: 1})


def test_hash_tells_spaces_apart() -> None:
    reordered = {"agent": TREE["agent"], "feature": TREE["feature"]}
    wider = {**TREE, "feature": {"lookback": {"low": 4, "high": 64, "step": 4}}}
    unconditional = {**TREE, "agent": {**TREE["agent"], "net": ["small", "medium"]}}
    digest = space_hash(parse_space(TREE))
    assert space_hash(parse_space(reordered)) == digest
    assert len({digest, space_hash(parse_space(wider)), space_hash(parse_space(unconditional))}) == 3


def test_narrow_replaces_and_adds_choices() -> None:
    space = narrow(parse_space(TREE), {"feature.lookback": [8, 16], "data.timeframe": ["1h"]})
    domains = {each.path: each.domain for each in space.parameters}
    assert domains["feature.lookback"] == Choices((8, 16))
    assert domains["data.timeframe"] == Choices(("1h",))
    assert len(domains) == 5


def test_narrow_drops_what_can_no_longer_be_active() -> None:
    left = narrow(parse_space(TREE), {"agent.n_steps": [512, 1024]})
    assert left.parameters[3].when == (("agent.n_steps", (512,)),)
    gone = narrow(parse_space(TREE), {"agent.n_steps": [1024]})
    assert "agent.net" not in {each.path for each in gone.parameters}


def test_grid_lists_each_active_combination_once() -> None:
    tree = {"a": [1, 2], "b": {"choices": ["x", "y"], "when": {"a": [2]}}, "c": [True, False]}
    combinations = grid(parse_space(tree))
    assert combinations[:3] == [{"a": 1, "c": True}, {"a": 1, "c": False}, {"a": 2, "b": "x", "c": True}]
    assert len(combinations) == 6


def test_grid_refuses_a_range() -> None:
    with pytest.raises(BadInputError, match=r"space\.a is a range"):
        grid(parse_space({"a": {"low": 0, "high": 3}}))


LISTS = {"feature": {"indicators": [["rsi"], ["rsi", "adx"]]}, "agent": {"net": ["small", "tiny"]}}


def test_a_list_is_text_in_the_trial_and_a_list_in_the_configuration() -> None:
    space = parse_space(LISTS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(8):
        trial = study.ask()
        drawn = suggest(space, trial)
        assert drawn["feature.indicators"] in (["rsi"], ["rsi", "adx"])
        assert trial.params["feature.indicators"] == json.dumps(drawn["feature.indicators"])
        assert suggest(space, optuna.trial.FixedTrial(trial.params)) == drawn
    (distribution,) = {str(t.distributions["feature.indicators"]) for t in study.get_trials()}
    assert '["rsi", "adx"]' in distribution


def test_lists_have_an_order_a_hash_and_a_place_in_a_grid() -> None:
    turned = {**LISTS, "feature": {"indicators": [["rsi"], ["adx", "rsi"]]}}
    assert space_hash(parse_space(turned)) != space_hash(parse_space(LISTS))
    assert grid(parse_space(LISTS))[1] == {"feature.indicators": ["rsi"], "agent.net": "tiny"}
    kept = narrow(parse_space(LISTS), {"feature.indicators": [["rsi", "adx"]]})
    assert kept.parameters[0].domain == Choices((["rsi", "adx"],))
