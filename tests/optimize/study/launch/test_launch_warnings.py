"""Warnings of an allowed launch, and refusals of values that only look like numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from envs.costs import CostSpec
from optimize.data.spec import DataSpec
from optimize.database import open_engine
from optimize.database.health import look
from optimize.doctor.examination import examine
from optimize.errors import LARGEST_COUNT, BadInputError
from optimize.results.tables import METADATA
from optimize.search.spec import PrunerSpec, TimeframePhaseSpec
from optimize.study.context import open_study
from optimize.study.launch.warnings import launch_warnings, memory_here
from optimize.study.spec import StudySpec, WorkerSpec
from tests.optimize.study.databases import Small


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_a_pruner_that_no_window_is_left_for_is_told(name: str) -> None:
    spec = StudySpec(name="x", pruner=PrunerSpec(name=name, n_warmup_steps=9))
    (word,) = launch_warnings(spec, 10, 1e6)
    assert word.startswith(f"pruner={name} prunes nothing here: of 10 windows it spares the first 9")
    assert launch_warnings(spec, 11, 1e6) == []
    assert launch_warnings(dataclasses.replace(spec, n_trials=8), 10, 1e6) == []
    assert (
        launch_warnings(dataclasses.replace(spec, pruner=PrunerSpec(name="none", n_warmup_steps=9)), 2, 1e6)
        == []
    )


def test_workers_that_do_not_fit_into_memory_are_told() -> None:
    spec = StudySpec(name="x", worker=WorkerSpec(count=16))
    (word,) = launch_warnings(spec, 4, 8191)
    assert "16 workers of about 512 MB each may need 8.0 GB, and this machine has 8.0 GB" in word
    assert launch_warnings(spec, 4, 8192) == []
    limited = dataclasses.replace(spec, worker=WorkerSpec(count=4, max_memory_mb=3000))
    assert "4 workers of worker.max_memory_mb=3000 may need 11.7 GB" in launch_warnings(limited, 4, 8192)[0]
    assert launch_warnings(dataclasses.replace(spec, worker=WorkerSpec(kind="ray", count=99)), 4, 8192) == []
    assert 0 < memory_here() < 1e9


def test_costs_by_the_share_of_adjusted_prices_are_a_caution() -> None:
    def words(cost: CostSpec, **data: Any) -> list[str]:
        return launch_warnings(StudySpec(name="x", data=DataSpec(symbols=["SPY"], **data), cost=cost), 4, 1e6)

    tiered = CostSpec(commission_per_share=0.0035, slippage_per_share=0.005)
    (word,) = words(tiered, provider="yfinance", adjustment="all")
    both = "cost.commission_per_share=0.0035 and cost.slippage_per_share=0.005"
    assert word.startswith(f"{both} count the shares of data.adjustment=all prices: ")
    (word,) = words(CostSpec(slippage_per_share=0.01), provider="alpaca", adjustment="split")
    assert word.startswith("cost.slippage_per_share=0.01 count")
    (word,) = words(tiered, provider="file", path="{symbol}.csv", adjust=True)
    assert "of data.adjust=true prices" in word
    assert words(tiered, provider="alpaca", adjustment="raw") == []
    assert words(tiered, provider="alpaca", adjustment="dividend") == []
    assert words(tiered, provider="file", path="{symbol}.csv") == []
    assert words(CostSpec(commission_min=1.0), provider="yfinance", adjustment="all") == []


@pytest.mark.parametrize("share", [0.26, 0.9])
def test_shares_of_a_gpu_that_are_more_than_it_has_are_refused(share: float) -> None:
    with pytest.raises(BadInputError, match=r"memory_fraction=.*at most 0\.25, as worker\.per_device=4"):
        WorkerSpec(per_device=4, memory_fraction=share)
    assert WorkerSpec(per_device=4, memory_fraction=0.25).memory_fraction == 0.25


@pytest.mark.parametrize(
    "key", ["n_trials", "max_failures", "max_consecutive_failures", "max_alike_failures", "keep_models"]
)
def test_a_number_that_no_column_holds_is_refused(key: str) -> None:
    def with_key(value: int) -> StudySpec:
        changes: dict[str, Any] = {key: value}
        return StudySpec(name="x", **changes)

    for value in (0, LARGEST_COUNT + 1, 10**20):
        with pytest.raises(BadInputError, match=rf"{key}={value}"):
            with_key(value)
    assert getattr(with_key(LARGEST_COUNT), key) == LARGEST_COUNT


def test_the_trials_of_a_timeframe_phase_and_of_a_batch_are_bounded_too() -> None:
    with pytest.raises(BadInputError, match=r"phase\.timeframe\.n_trials"):
        TimeframePhaseSpec(n_trials=4 * 10**20)
    with pytest.raises(BadInputError, match=r"worker\.batch_size"):
        WorkerSpec(mode="batch", batch_size=10**20)


@pytest.mark.parametrize(("cap", "allowed"), [(4, 10), (100, 10), (1000, 100)])
def test_a_longer_study_may_fail_more_often(cap: int, allowed: int) -> None:
    assert StudySpec(name="x", n_trials=cap).failures_allowed == allowed
    assert StudySpec(name="x", n_trials=cap, max_failures=3).failures_allowed == 3


def test_tables_of_another_program_are_left_alone(small: Small) -> None:
    spec = small()
    engine = open_engine(spec.database.url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE studies (a INTEGER)"))
    with pytest.raises(BadInputError, match="the table 'studies' in it is another program's: name another"):
        open_study(spec)
    with pytest.raises(BadInputError, match="another program's"):
        list(examine(spec.database, Path("studies"), None, writable=True))
    with engine.connect() as conn:
        stored = conn.execute(text("SELECT COUNT(*) FROM studies")).scalar()
    assert stored == 0
    assert not METADATA.tables.keys() & set(inspect(engine).get_table_names())
    engine.dispose()


def test_the_doctor_says_what_it_looked_at(small: Small) -> None:
    spec = small()
    engine = open_engine(spec.database.url)
    health = look(engine)
    engine.dispose()
    assert health.problems == ()
    if health.journal is None:
        assert health.checked in (
            "reached, and not checked for damage, as the server keeps no checksums",
            "no page that the server read failed its checksum",
        )
    else:
        assert health.checked == "every page is sound"
    said = [each.said for each in examine(spec.database, Path("studies"), None, writable=False)]
    assert any(health.checked in each for each in said)
