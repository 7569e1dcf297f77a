"""The order of a search space decides its draws, so it survives storing and a later launch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from envs.plain import from_plain
from optimize.results.column_types import JsonText
from optimize.results.records import load_study
from optimize.results.tables import STUDIES
from optimize.search.parse import parse_space
from optimize.search.proposals import store
from optimize.search.spec import SamplerSpec
from optimize.study.context import StudyContext, open_study
from optimize.study.spec import StudySpec
from tests.optimize.study.studies import opened, small_spec

NAMES = st.text("abcxyz", min_size=1, max_size=3)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("pq", max_size=2))
LISTS = st.lists(
    st.one_of(VALUES, st.lists(st.text("rs"), max_size=2)), min_size=1, max_size=3, unique_by=repr
)
RANGES = st.builds(lambda low, width: {"low": low, "high": low + width}, st.floats(-5, 5), st.floats(0.5, 5))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Return a tree of leaves in any order, some of them under conditions on others."""
    groups = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    listed: dict[str, list[Any]] = {}
    found: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for number, group in enumerate(draw(st.lists(st.sampled_from(groups), min_size=1, max_size=6))):
        name = f"{draw(NAMES)}{number}"
        choices = [each for each in draw(LISTS) if not isinstance(each, bool)] or [0]
        leaf: dict[str, Any] = draw(st.one_of(RANGES, st.just({"choices": choices})))
        if draw(st.booleans()) and listed:
            parents = draw(st.lists(st.sampled_from(sorted(listed)), min_size=1, max_size=2, unique=True))
            leaf = leaf | {"when": {path: listed[path][:1] for path in parents}}
        if "choices" in leaf:
            listed[f"{group}.{name}"] = choices
        found[group][name] = leaf
    shuffled = {group: dict(draw(st.permutations(list(found[group].items())))) for group in groups}
    return {group: leaves for group, leaves in shuffled.items() if leaves}


def stored(tree: dict[str, Any], column: Any) -> Any:
    dialect = sqlite.dialect()
    return column.process_result_value(column.process_bind_param(tree, dialect), dialect)


@settings(max_examples=60, deadline=None)
@given(trees())
def test_a_stored_space_is_the_space_and_parents_come_first_in_any_order(tree: dict[str, Any]) -> None:
    space = parse_space(tree)
    for key in ("space", "spec"):
        assert parse_space(stored(tree, STUDIES.c[key].type)) == space
    older = parse_space(stored(tree, JsonText()))  # whose keys are sorted
    by_path = {each.path: each for each in space.parameters}
    assert len(older.parameters) == len(by_path)
    seen: set[str] = set()
    for each in older.parameters:
        known = by_path[each.path]
        assert (each.domain, dict(each.when)) == (known.domain, dict(known.when))
        assert {path for path, _ in each.when} <= seen
        seen.add(each.path)


LEAF = {"choices": [0.9, 0.95, 0.99]}
UNSORTED: dict[str, Any] = {
    "reward": {"name": ["net_log_return", "drawdown_penalised"]},
    "agent": {
        "gamma": LEAF | {"when": {"reward.name": ["drawdown_penalised"]}},
        "ent_coef": [0.0, 0.01],
        "clip_range": [0.1, 0.2, 0.3],
    },
}
SORTED: dict[str, Any] = json.loads(json.dumps(UNSORTED, sort_keys=True))


def drawn(context: StudyContext, count: int) -> list[dict[str, Any]]:
    """Draw trials, give them scores, and return the parameters of all."""
    study = context.study
    for _ in range(count):
        draw = context.proposals.draw(study.get_trials(deepcopy=False))
        trial = store(context.storage, study.study_name, draw, {})
        numbers = [value for value in trial.params.values() if isinstance(value, float)]
        study.tell(trial.number, sum(numbers))
    return [trial.params for trial in study.get_trials()]


def by_name(context: StudyContext) -> StudySpec:
    """Return the stored spec."""
    with context.engine.connect() as conn:
        record = load_study(conn, context.spec.name)
    assert record is not None
    return replace(from_plain(StudySpec, record.spec), database=context.spec.database)


def typed_otherwise(context: StudyContext) -> StudySpec:
    return replace(context.spec, space=SORTED)


@pytest.mark.parametrize(
    ("name", "resumed"),
    [*((name, by_name) for name in ("tpe", "random", "qmc", "grid")), ("random", typed_otherwise)],
)
def test_a_study_that_is_resumed_draws_as_one_that_is_not_interrupted(
    tmp_path: Path, name: str, resumed: Callable[[StudyContext], StudySpec]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = SamplerSpec(name, n_startup_trials=3)
    whole = small_spec(tmp_path, name="whole", space=UNSORTED, sampler=sampler)
    uninterrupted = drawn(opened(whole), 8)
    context = opened(replace(whole, name="parts"))
    drawn(context, 4)
    again = open_study(resumed(context))
    try:
        assert drawn(again, 4) == uninterrupted
    finally:
        again.close()
