"""Optuna's tools beside Walkforge: renaming, queuing and completing trials by hand lose and stop no study."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from optimize.bundles.gated_rows import gated_rows
from optimize.bundles.gates import NO_GATES
from optimize.doctor.findings import OK, WARN
from optimize.errors import BadInputError
from optimize.results.queries import best_models, find_study
from optimize.study.context import StudyContext, open_study
from optimize.study.control import NoTrial
from tests.optimize.doctor.test_doctor import launched, levels, treated
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import OPENED, opened, play, rows, states

RATE = "agent.learning_rate"


def rename_by_copy(context: StudyContext, name: str) -> None:
    """Rename a study as optuna-dashboard does."""
    source = context.study
    copy = optuna.create_study(storage=context.storage, study_name=name, directions=source.directions)
    copy.add_trials(source.get_trials(deepcopy=False))
    optuna.delete_study(study_name=source.study_name, storage=context.storage)


def rename_by_sql(context: StudyContext, name: str) -> None:
    with context.engine.begin() as conn:
        conn.execute(text("UPDATE studies SET study_name = :name"), {"name": name})


@pytest.mark.parametrize("rename", [rename_by_copy, rename_by_sql])
def test_a_renamed_study_is_named_by_both_names_and_keeps_its_records(small: Small, rename: Any) -> None:
    context = launched(opened(small(n_trials=2)))
    play(context)
    best = best_models(context.engine, "small")
    rename(context, "better")
    for name in ("small", "better"):
        with pytest.raises(BadInputError, match=r"'small' was renamed to 'better'.*doctor repair=true"):
            find_study(context.engine, name)
    with pytest.raises(BadInputError, match="was renamed"):
        open_study(small(name="better"))
    assert any("renamed to better" in each.finding.said for each in treated(context, name="small"))
    done = [each.done for each in treated(context, repair=True) if each.done]
    assert done == ["renamed better to small"]
    assert set(levels(treated(context))) == {OK}
    assert best_models(context.engine, "small") == best
    again = opened(small(n_trials=2))
    assert play(again) is NoTrial.FULL


def test_the_next_launch_under_the_old_name_finds_its_trials(small: Small) -> None:
    context = launched(opened(small(n_trials=2)))
    play(context)
    rename_by_copy(context, "better")
    again = opened(small(n_trials=3))
    assert states(again) == {"COMPLETE": 2}
    assert play(again) is NoTrial.FULL
    assert states(again) == {"COMPLETE": 3}
    assert rows(context.spec, "SELECT * FROM wf_trash") == []


def test_records_of_a_study_that_was_deleted_are_set_aside_by_the_next_of_its_name(small: Small) -> None:
    context = opened(small(n_trials=1))
    play(context)
    optuna.delete_study(study_name="small", storage=context.storage)
    again = opened(small(n_trials=1))
    assert states(again) == {}
    assert rows(context.spec, "SELECT * FROM wf_runs") == []
    moved = rows(context.spec, "SELECT table_name, COUNT(*) FROM wf_trash GROUP BY table_name")
    kinds = {"wf_runs", "wf_studies", "wf_windows", "wf_returns", "wf_sessions", "wf_probes"}
    assert dict(moved).keys() == kinds


@pytest.mark.parametrize(
    ("queued", "why"),
    [
        ({RATE: 5.0}, "agent.learning_rate=5.0 is not a number from 0.0001 to 0.01"),
        ({RATE: "fast"}, "agent.learning_rate='fast' is not a number"),
        ({RATE: True}, "agent.learning_rate=True is not a number"),
        ({"agent.net": "huge"}, "agent.net is not a parameter of the space"),
    ],
)
def test_a_queued_value_outside_the_space_is_closed_and_the_study_goes_on(
    small: Small, queued: dict[str, Any], why: str
) -> None:
    context = opened(small(n_trials=1))
    for _ in range(context.spec.max_consecutive_failures + 1):  # none of them counts as a failure
        context.study.enqueue_trial(queued)
    context.study.enqueue_trial({RATE: 0.005})
    assert play(context) is NoTrial.FULL
    *closed, last = context.study.trials
    assert {trial.state for trial in closed} == {TrialState.FAIL}
    assert all(why in trial.user_attrs["closed"] for trial in closed)
    assert (last.state, last.params) == (TrialState.COMPLETE, {RATE: 0.005})
    assert rows(context.spec, "SELECT failed FROM study_health") == [(0,)]
    ((message,), *_) = rows(context.spec, "SELECT message FROM wf_events WHERE kind = 'closed'")
    assert why in message


def test_a_choice_that_is_none_is_closed(small: Small) -> None:
    context = opened(small(n_trials=1, space={"agent": {"net": ["tiny", "small"]}}))
    context.study.enqueue_trial({"agent.net": "huge"})
    assert play(context) is NoTrial.FULL
    assert states(context) == {"FAIL": 1, "COMPLETE": 1}


def test_a_parameter_of_another_kind_than_the_space_is_named(small: Small) -> None:
    context = opened(small(n_trials=1, space={"agent": {"net": ["tiny", "small"]}}))
    context.study.ask().suggest_int("agent.net", 1, 3)  # in a notebook
    with pytest.raises(BadInputError, match=r"added by hand has a parameter of another kind.*another name"):
        play(context)


def test_trials_told_by_hand_are_left_out_of_an_export(small: Small) -> None:
    context = opened(small(n_trials=4))
    play(context, 2)
    space = context.study.trials[0].distributions
    for rate, value in ((0.001, 99.0), (0.002, 98.0)):
        context.study.add_trial(create_trial(params={RATE: rate}, distributions=space, value=value))
    said: list[str] = []
    found = gated_rows(context.engine, "small", 2, NO_GATES, said.append)
    assert [each.row.rank for each in found] == [3, 4]
    assert len(said) == 1
    assert "2 (rank 1), 3 (rank 2)" in said[0]
    assert not gated_rows(context.engine, "nobody", 2, NO_GATES, said.append)


def test_nothing_is_renamed_where_the_first_study_is_there(small: Small) -> None:
    context = launched(opened(small(n_trials=1)))
    play(context)
    optuna.copy_study(
        from_study_name="small",
        from_storage=context.storage,
        to_storage=context.storage,
        to_study_name="copy",
    )
    assert find_study(context.engine, "copy") == "copy"
    assert "names" not in {each.finding.check for each in treated(context) if each.level == WARN}
    OPENED.append(open_study(small(name="copy")))
