from datetime import UTC, date, datetime

from optimize.report.finalists import finalist_rows, shrinkage_line, shrinkage_of, stress_reasons
from optimize.results.finalists import FinalistHoldout, StressRecord
from tests.optimize.results.test_results_finalists import make_finalist, make_finalist_run


def test_the_shrinkage_is_of_the_finalists_that_have_both_scores() -> None:
    found = [
        make_finalist(1, search_score=2.0, fresh_score=1.0),
        make_finalist(2, search_score=1.0, fresh_score=-0.5),
        make_finalist(3, search_score=9.0, fresh_score=None),
    ]
    shrinkage = shrinkage_of(found)
    assert shrinkage is not None
    assert (shrinkage.search, shrinkage.fresh, shrinkage.difference) == (1.5, 0.25, 1.25)
    assert "+1.50 on average became +0.25 on fresh seeds, a change of -1.25" in shrinkage_line(found)
    assert shrinkage_of(found[2:]) is None
    assert shrinkage_line(found[2:]) == "no finalist has a feasible fresh score"


def test_a_row_has_its_median_seed_under_each_stress_as_the_view_and_the_page_have() -> None:
    runs = [make_finalist_run(seed, parameter_set="set1") for seed in range(3)]
    stress = [
        StressRecord(run.run_uuid, "delay_1", score) for run, score in zip(runs, (3.0, 1.0, 2.0), strict=True)
    ]
    stress += [StressRecord(run.run_uuid, "volume_0.01", None, reason="no volume") for run in runs]
    # the median fresh seed is that of uuid0
    row, other = finalist_rows([make_finalist(1), make_finalist(2, run_uuid=None)], runs, stress)
    assert row["stress"] == {"delay_1": 3.0, "volume_0.01": None}
    assert other["stress"] == {"delay_1": None, "volume_0.01": None}
    assert row["trial_number"] == 3
    assert row["score_holdout"] is None
    assert stress_reasons(stress) == ["volume_0.01 has runs without a score: no volume"]


def test_the_winners_curse_states_how_many_finalists_are_left_out() -> None:
    found = [make_finalist(1), make_finalist(2, fresh_score=None)]
    assert shrinkage_line(found).endswith(
        "; 1 more without a feasible fresh score are left out of both means"
    )
    assert "left out" not in shrinkage_line(found[:1])


def test_a_row_has_the_score_of_its_median_seed_on_the_holdout_and_the_range_of_all() -> None:
    runs = [make_finalist_run(seed, parameter_set="set1") for seed in range(3)]
    opened = datetime(2026, 1, 1, tzinfo=UTC)
    span = (date(2025, 1, 1), date(2025, 3, 1))
    holdout = [
        FinalistHoldout(run.run_uuid, *span, opened, score, 0.5)
        for run, score in zip(runs, (0.2, None, 0.9), strict=True)
    ]
    holdout.append(FinalistHoldout("of another set", *span, opened, 9.0, 0.5))
    (row,) = finalist_rows([make_finalist(1)], runs, [], holdout)
    figures = [row[name] for name in ("score_holdout", "score_holdout_min", "score_holdout_max")]
    assert (figures, row["buy_and_hold_holdout"]) == ([0.2, 0.2, 0.9], 0.5)
