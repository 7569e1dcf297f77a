"""The power that a launch prints counts the trials to come and the tries made before."""

from optimize.study.launch.power import planned_power
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import ground_of, opened, play


def test_the_line_counts_tries_of_any_study_and_the_trials_to_come(small: Small) -> None:
    first = opened(small(n_trials=4))
    ground = ground_of(first, first.spec)
    sessions = sum(window.dates.test_sessions for window in ground.windows)
    line = planned_power(first, ground)
    assert line.startswith(f"power: {sessions} test sessions ")
    assert line.endswith("after 4 tries, in 80 % of cases")
    play(first, 2)
    second = opened(small(name="second", n_trials=10))
    words = planned_power(second, ground_of(second, second.spec))
    assert words.endswith("after 12 tries, in 80 % of cases; 2 of the tries were made before")


def test_the_line_of_a_timeframe_phase_counts_the_trials_of_the_model_phase_once(small: Small) -> None:
    first = opened(small(name="two.timeframe", n_trials=4))
    ground = ground_of(first, first.spec)
    assert planned_power(first, ground, 6).endswith("after 10 tries, in 80 % of cases")
    play(opened(small(name="two.model", n_trials=6)), 2)
    assert planned_power(first, ground, 6).endswith(
        "after 10 tries, in 80 % of cases; 2 of the tries were made before"
    )
    assert planned_power(first, ground).endswith(
        "after 6 tries, in 80 % of cases; 2 of the tries were made before"
    )
