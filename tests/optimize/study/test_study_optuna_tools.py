"""What Optuna's own tools do beside us: rename, queue, tell by hand; none of it loses or stops a study."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from optimize.errors import BadInputError
from optimize.results.queries import find_study, leaderboard
from optimize.study.claims.caps import Verdict
from optimize.study.doctor.findings import OK, WARN
from optimize.study.export.best import _with_runs
from optimize.study.handle import Handle, open_study
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import OPENED, opened, play, rows, states
from tests.optimize.study.test_study_doctor import launched, levels, treated

RATE = "agent.learning_rate"


def rename_by_copy(handle: Handle, name: str) -> None:
    """Rename a study as optuna-dashboard does."""
    source = handle.study
    copy = optuna.create_study(storage=handle.storage, study_name=name, directions=source.directions)
    copy.add_trials(source.get_trials(deepcopy=False))
    optuna.delete_study(study_name=source.study_name, storage=handle.storage)


def rename_by_sql(handle: Handle, name: str) -> None:
    with handle.engine.begin() as conn:
        conn.execute(text("UPDATE studies SET study_name = :name"), {"name": name})


@pytest.mark.parametrize("rename", [rename_by_copy, rename_by_sql])
def test_a_renamed_study_is_named_by_both_names_and_keeps_its_records(small: Small, rename: Any) -> None:
    handle = launched(opened(small(n_trials=2)))
    play(handle)
    best = leaderboard(handle.engine, "small")
    rename(handle, "better")
    for name in ("small", "better"):
        with pytest.raises(BadInputError, match=r"'small' was renamed to 'better'.*doctor repair=true"):
            find_study(handle.engine, name)
    with pytest.raises(BadInputError, match="was renamed"):
        open_study(small(name="better"))
    assert any("renamed to better" in each.finding.said for each in treated(handle, name="small"))
    done = [each.done for each in treated(handle, repair=True) if each.done]
    assert done == ["renamed better to small"]
    assert set(levels(treated(handle))) == {OK}
    assert leaderboard(handle.engine, "small") == best
    again = opened(small(n_trials=2))
    assert play(again) is Verdict.FULL


def test_the_next_launch_under_the_old_name_finds_its_trials(small: Small) -> None:
    handle = launched(opened(small(n_trials=2)))
    play(handle)
    rename_by_copy(handle, "better")
    again = opened(small(n_trials=3))
    assert states(again) == {"COMPLETE": 2}
    assert play(again) is Verdict.FULL
    assert states(again) == {"COMPLETE": 3}
    assert rows(handle.spec, "SELECT * FROM wf_trash") == []


def test_records_of_a_study_that_was_deleted_are_set_aside_by_the_next_of_its_name(small: Small) -> None:
    handle = opened(small(n_trials=1))
    play(handle)
    optuna.delete_study(study_name="small", storage=handle.storage)
    again = opened(small(n_trials=1))
    assert states(again) == {}
    assert rows(handle.spec, "SELECT * FROM wf_runs") == []
    moved = rows(handle.spec, "SELECT table_name, COUNT(*) FROM wf_trash GROUP BY table_name")
    assert dict(moved).keys() == {"wf_runs", "wf_studies", "wf_windows"}


@pytest.mark.parametrize(
    ("queued", "why"),
    [
        ({RATE: 5.0}, "agent.learning_rate=5.0 is no number from 0.0001 to 0.01"),
        ({RATE: "fast"}, "agent.learning_rate='fast' is no number"),
        ({RATE: True}, "agent.learning_rate=True is no number"),
        ({"agent.net": "huge"}, "agent.net is no parameter of the space"),
    ],
)
def test_a_queued_value_outside_the_space_is_closed_and_the_study_goes_on(
    small: Small, queued: dict[str, Any], why: str
) -> None:
    handle = opened(small(n_trials=1))
    for _ in range(handle.spec.max_consecutive_failures + 1):  # none of them counts as a failure
        handle.study.enqueue_trial(queued)
    handle.study.enqueue_trial({RATE: 0.005})
    assert play(handle) is Verdict.FULL
    *closed, last = handle.study.trials
    assert {trial.state for trial in closed} == {TrialState.FAIL}
    assert all(why in trial.user_attrs["closed"] for trial in closed)
    assert (last.state, last.params) == (TrialState.COMPLETE, {RATE: 0.005})
    assert rows(handle.spec, "SELECT failed FROM study_health") == [(0,)]
    ((message,), *_) = rows(handle.spec, "SELECT message FROM wf_events WHERE kind = 'closed'")
    assert why in message


def test_a_choice_that_is_none_is_closed(small: Small) -> None:
    handle = opened(small(n_trials=1, space={"agent": {"net": ["tiny", "small"]}}))
    handle.study.enqueue_trial({"agent.net": "huge"})
    assert play(handle) is Verdict.FULL
    assert states(handle) == {"FAIL": 1, "COMPLETE": 1}


def test_a_parameter_of_another_distribution_is_closed(small: Small) -> None:
    handle = opened(small(n_trials=1, space={"agent": {"net": ["tiny", "small"]}}))
    handle.study.ask().suggest_int("agent.net", 1, 3)  # in a notebook
    assert play(handle) is Verdict.FULL
    assert states(handle)["COMPLETE"] == 1


def test_trials_told_by_hand_are_left_out_of_an_export(small: Small) -> None:
    handle = opened(small(n_trials=4))
    play(handle, 2)
    space = handle.study.trials[0].distributions
    for rate, value in ((0.001, 99.0), (0.002, 98.0)):
        handle.study.add_trial(create_trial(params={RATE: rate}, distributions=space, value=value))
    said: list[str] = []
    found = _with_runs(handle.engine, "small", 2, said.append)
    assert [row.rank for row in found] == [3, 4]
    assert len(said) == 1
    assert "2 (rank 1), 3 (rank 2)" in said[0]
    assert not _with_runs(handle.engine, "nobody", 2, said.append)


def test_nothing_is_renamed_where_the_first_study_is_there(small: Small) -> None:
    handle = launched(opened(small(n_trials=1)))
    play(handle)
    optuna.copy_study(
        from_study_name="small", from_storage=handle.storage, to_storage=handle.storage, to_study_name="copy"
    )
    assert find_study(handle.engine, "copy") == "copy"
    assert "names" not in {each.finding.check for each in treated(handle) if each.level == WARN}
    OPENED.append(open_study(small(name="copy")))
