"""The vault: a holdout is kept for every study of the database, opened by name alone, and then spent."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowSpec
from optimize.results.holdout import (
    HoldoutOpening,
    KeptHoldout,
    holdout_of_study,
    holdouts_of,
    keep_holdout,
    log_opening,
    openings_of,
)
from optimize.results.instrument_names import known_names
from optimize.results.states import TryKind
from optimize.results.tables import INSTRUMENTS
from optimize.results.tries import Try, count_tries, record_try
from optimize.study.holdout import with_kept_holdout
from optimize.study.spec import resolve
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.study.bundles import write_prices
from tests.optimize.study.vaults import ALL, LATER, NAMES, OWN, REACHED, Vault, vault

__all__ = ["vault"]


def opened(vault: Vault, first: date = OWN[0], end: date = OWN[1]) -> int:
    opening = HoldoutOpening(NAMES, first, end, "one", "run", "bundle", "export")
    with vault.engine.begin() as conn:
        return log_opening(conn, opening)


def test_the_first_cut_is_kept_and_newer_data_do_not_move_it(vault: Vault) -> None:
    first, windowed = vault.launch(vault.spec("one"))
    assert first.window.holdout == []
    assert windowed.plan.holdout == OWN
    assert vault.kept() == [(*OWN, False)]
    again, _ = vault.launch(vault.spec("one"))
    assert again == first

    newer, windowed = vault.launch(vault.spec("two", days=54))
    assert newer.window.holdout == ["2022-02-11", "2022-02-18"]
    assert windowed.plan.holdout == OWN
    assert max(window.test_end for window in windowed.plan.windows) <= OWN[0]
    assert vault.kept() == [(*OWN, False)]
    assert "its 6 later sessions are in none either" in vault.said[-1]
    with vault.engine.connect() as conn:
        assert holdout_of_study(conn, "one.model") == holdout_of_study(conn, "x", newer.window.holdout)


@pytest.mark.parametrize(
    ("end", "window"),
    [
        (OWN[1], {"holdout_share": 0.0}),
        (
            REACHED,
            {
                "kind": "canonical",
                "holdout_share": 0.0,
                "spans": [
                    dict(
                        train_start="2022-01-10",
                        train_end="2022-02-01",
                        test_start="2022-02-01",
                        test_end=str(REACHED),
                    )
                ],
            },
        ),
    ],
)
def test_windows_that_reach_into_a_kept_holdout_are_refused_unless_they_open_it(
    vault: Vault, end: date, window: dict[str, Any]
) -> None:
    vault.launch(vault.spec("one"))
    with pytest.raises(
        BadInputError, match=r"2022-02-11 to 2022-02-18 .*study one cut it.*holdout\.open=true"
    ):
        vault.launch(vault.spec("two", **window))
    assert vault.kept() == [(*OWN, False)]
    vault.launch(vault.spec("two", opens=True, **window))
    rest = [(end, OWN[1], False)] if end < OWN[1] else []
    assert vault.kept() == [(OWN[0], end, True), *rest]
    assert vault.said[-1].endswith("is opened for the 1st time")
    with vault.engine.connect() as conn:
        (logged,) = openings_of(conn, NAMES, *OWN)
    assert (logged.purpose, logged.study_name) == ("study", "two")
    assert "@" in logged.host
    vault.launch(vault.spec("two", opens=True, **window))  # spent: it is not opened again
    with vault.engine.connect() as conn:
        assert len(openings_of(conn, NAMES, *OWN)) == 1


def test_a_spent_holdout_may_be_trained_on_and_the_next_begins_after_its_end(vault: Vault) -> None:
    vault.launch(vault.spec("one"))
    assert (opened(vault), opened(vault)) == (1, 2)
    assert vault.kept() == [(*OWN, True)]
    weekly, windowed = vault.launch(vault.spec("two", days=60, holdout_share=0.3))
    assert windowed.plan.holdout == (OWN[1], LATER)
    assert weekly.window.holdout == ["2022-02-18", "2022-03-02"]
    assert max(window.test_end for window in windowed.plan.windows) == OWN[1]
    assert vault.kept() == [(*OWN, True), (OWN[1], LATER, False)]


def test_an_opening_spends_what_is_earlier_and_leaves_what_is_later_kept(vault: Vault) -> None:
    vault.launch(vault.spec("one"))
    assert opened(vault, date(2022, 2, 13), date(2022, 2, 15)) == 1
    assert vault.kept() == [(OWN[0], date(2022, 2, 15), True), (date(2022, 2, 15), OWN[1], False)]
    second, windowed = vault.launch(vault.spec("two"))
    assert windowed.plan.holdout == (date(2022, 2, 15), OWN[1])
    assert max(window.test_end for window in windowed.plan.windows) == date(2022, 2, 15)
    with vault.engine.connect() as conn:
        whole = holdout_of_study(conn, "one", (), NAMES)
        later = holdout_of_study(conn, "two", second.window.holdout, NAMES)
    assert whole is not None
    assert later is not None
    assert (whole.first, whole.end) == OWN
    assert (later.first, later.end) == windowed.plan.holdout


def test_ten_weekly_studies_move_on_although_no_holdout_is_opened(vault: Vault) -> None:
    ends = []
    for week in range(10):
        days = 48 + 5 * week
        _, windowed = vault.launch(vault.spec(f"week_{week}", days=days))
        assert windowed.plan.holdout is not None
        first, end = windowed.plan.holdout
        length, dates = (end - first).days, windowed.market.session_date
        ends.append(max(window.test_end for window in windowed.plan.windows))
        assert ends[-1] == first
        assert length >= 7
        assert (dates[-1].item() - first).days < 3 * length  # windows keep up with the newest bars
    assert ends == sorted(ends)
    assert len(set(ends)) >= 4
    with vault.engine.connect() as conn:
        logged = openings_of(conn, NAMES, *ALL)
        assert {each.purpose for each in logged} == {"succession"}
        assert len(logged) == len(set(ends)) - 1
    kept = [(first, end) for first, end, spent in vault.kept() if not spent]
    assert kept == [windowed.plan.holdout]  # one is sealed at any time


def test_ten_weekly_studies_that_open_their_holdouts_have_long_ones(vault: Vault) -> None:
    opened_ones = []
    for week in range(10):
        _, windowed = vault.launch(vault.spec(f"week_{week}", days=48 + 2 * week))
        assert windowed.plan.holdout is not None
        first, end = windowed.plan.holdout
        assert max(window.test_end for window in windowed.plan.windows) == first
        if (end - first).days >= 5:  # enough for a score
            assert opened(vault, first, end) == 1
            opened_ones.append((first, end))
    assert opened_ones == [
        (date(2022, 2, 11), date(2022, 2, 18)),
        (date(2022, 2, 18), date(2022, 2, 24)),
        (date(2022, 2, 24), date(2022, 3, 2)),
        (date(2022, 3, 2), date(2022, 3, 8)),
    ]
    with vault.engine.connect() as conn:
        assert {each.purpose for each in openings_of(conn, NAMES, *ALL)} == {"export"}


def test_a_debug_run_or_a_study_without_newer_bars_leaves_a_kept_holdout_alone(vault: Vault) -> None:
    vault.launch(vault.spec("one"))
    held = with_kept_holdout(
        spec := vault.spec("two", days=60), build_windowed_market(spec, None), keep=False
    )
    assert held.window.holdout == ["2022-02-11", "2022-02-18"]
    vault.launch(vault.spec("short", holdout_share=0.05))
    vault.launch(vault.spec("three", days=51, holdout_share=0.02))
    assert vault.kept() == [(*OWN, False)]


def test_where_no_session_is_left_there_is_no_holdout_and_all_may_be_used(vault: Vault) -> None:
    vault.launch(vault.spec("one"))
    opened(vault)
    _, windowed = vault.launch(vault.spec("two"))
    assert windowed.plan.holdout is None
    assert max(window.test_end for window in windowed.plan.windows) == OWN[1]
    assert "no session is left for a new one" in vault.said[-1]
    assert vault.kept() == [(*OWN, True)]


def test_a_span_that_was_opened_before_any_launch_stored_it_is_spent(vault: Vault) -> None:
    opened(vault)
    assert vault.kept() == [(*OWN, True)]


def test_other_instruments_other_dates_and_debug_runs_keep_nothing_back(vault: Vault) -> None:
    vault.launch(vault.spec("tiny_run"), debug=True)
    assert vault.kept() == []
    other = KeptHoldout(["OTHER"], *OWN, "other")
    past = KeptHoldout(NAMES, date(2020, 1, 1), date(2020, 2, 1), "past")
    with vault.engine.begin() as conn:
        assert keep_holdout(conn, other)
        assert keep_holdout(conn, past)
        assert not keep_holdout(conn, dataclasses.replace(past, study_name="again"))
    held, windowed = vault.launch(vault.spec("one"))
    assert held.window.holdout == []
    assert windowed.plan.holdout == OWN


def test_every_kept_holdout_is_guarded_not_the_first_alone(vault: Vault) -> None:
    with vault.engine.begin() as conn:
        keep_holdout(conn, KeptHoldout(NAMES, date(2022, 1, 3), date(2022, 1, 5), "past"))
        keep_holdout(conn, KeptHoldout(NAMES, *OWN, "one"))
    span = {"train_start": "2022-01-10", "train_end": "2022-02-01", "test_start": "2022-02-01"}
    spans = [span | {"test_end": "2022-02-13"}]
    with pytest.raises(BadInputError, match="2022-02-11 to 2022-02-18"):
        vault.launch(vault.spec("two", kind="canonical", holdout_share=0.0, spans=spans))
    assert not any(spent for *_, spent in vault.kept())


def test_each_instrument_and_session_that_no_holdout_keeps_is_kept(vault: Vault) -> None:
    later = (OWN[0], date(2022, 2, 20))
    with vault.engine.begin() as conn:
        keep_holdout(conn, KeptHoldout(["SPY"], *OWN, "one"))
        assert keep_holdout(conn, KeptHoldout(["SPY", "QQQ"], *later, "two"))
        assert not keep_holdout(conn, KeptHoldout(["SPY", "QQQ"], *later, "three"))
        spans = {
            name: [(each.first, each.end, each.study_name) for each in holdouts_of(conn, [name], *ALL)]
            for name in ("SPY", "QQQ")
        }
    assert spans == {"SPY": [(*OWN, "one"), (OWN[1], later[1], "two")], "QQQ": [(*later, "two")]}


def test_an_opening_spends_the_holdout_of_its_own_instruments_alone(vault: Vault) -> None:
    with vault.engine.begin() as conn:
        keep_holdout(conn, KeptHoldout(["SPY", "QQQ"], *OWN, "both"))
        log_opening(conn, HoldoutOpening(["spy"], *OWN, "two", "", "", "study"))
        spent = {
            name: [each.spent_at is not None for each in holdouts_of(conn, [name], *ALL)]
            for name in ("SPY", "QQQ")
        }
    assert spent == {"SPY": [True], "QQQ": [False]}


def test_another_spelling_of_a_symbol_is_the_same_instrument(vault: Vault) -> None:
    with vault.engine.begin() as conn:
        keep_holdout(conn, KeptHoldout(["BTC-USD"], *OWN, "one"))
        assert holdouts_of(conn, ["btcusd"], *ALL)
        assert not keep_holdout(conn, KeptHoldout(["BTC/USD"], *OWN, "two"))
        log_opening(conn, HoldoutOpening(["btc/usd"], *OWN, "two", "", "", "study"))
        assert len(openings_of(conn, ["BTC-USD"], *OWN)) == 1
        assert holdouts_of(conn, ["BTC-USD"], *ALL)[0].spent_at is not None


def changed_copy(vault: Vault, change: str) -> Path:
    """Write the bars of 48 days under another name, changed in a way that leaves them the same instrument."""
    bars = pd.read_parquet(str(vault.spec("unused").data.path))
    prices = ["open", "high", "low", "close"]
    if change == "rescaled":
        bars[prices] *= 0.05
    if change == "restated":
        bars[prices] *= 1.0 + 1e-5 * np.random.default_rng(1).normal(size=(len(bars), 1))
    if change == "coarser":
        parts = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        bars = bars.resample("6h", on="timestamp").agg(parts).reset_index()
    path = vault.folder / f"{change}.parquet"
    bars.to_parquet(path)
    return path


@pytest.mark.parametrize("change", ["renamed", "rescaled", "restated", "coarser"])
def test_a_holdout_is_found_under_another_name_of_its_bars(vault: Vault, change: str) -> None:
    vault.launch(vault.spec("one"))
    tried = Try("a", TryKind.TRIAL, "one", NAMES, date(2022, 1, 20), date(2022, 2, 1), trial_number=0)
    with vault.engine.begin() as conn:
        record_try(conn, tried)
    spec = vault.spec("two")
    copy = resolve(
        dataclasses.replace(spec, data=DataSpec(provider="file", path=str(changed_copy(vault, change))))
    )
    _, windowed = vault.launch(copy)
    assert windowed.market.symbols == (change.upper(),)
    assert windowed.plan.holdout == OWN
    assert f"the bars of {change.upper()} are those of TINY_PRICES" in "\n".join(vault.said)
    with pytest.raises(BadInputError, match="windows reach into the holdout of TINY_PRICES"):
        vault.launch(
            dataclasses.replace(copy, name="three", window=vault.spec("x", holdout_share=0.0).window)
        )
    with vault.engine.begin() as conn:
        assert count_tries(conn, [change], *ALL).same_instrument == 1
        log_opening(conn, HoldoutOpening([change], *OWN, "two", "", "", "export"))
        assert len(openings_of(conn, NAMES, *OWN)) == 1
    assert vault.kept() == [(*OWN, True)]


def test_bars_of_other_prices_are_another_instrument(vault: Vault) -> None:
    vault.launch(vault.spec("one"))
    prices = write_prices(vault.folder / "other.parquet", seed=1)
    other = resolve(dataclasses.replace(vault.spec("two"), data=DataSpec(provider="file", path=str(prices))))
    vault.launch(other)
    assert vault.said == []
    with vault.engine.connect() as conn:
        assert known_names(conn, ["OTHER"]) == ["OTHER"]
        assert len(holdouts_of(conn, ["OTHER"], *ALL)) == 1


def test_the_closes_of_an_instrument_are_stored_once_and_grow(vault: Vault) -> None:
    for days in (48, 54, 48):
        vault.launch(vault.spec(f"of_{days}", days=days))
    with vault.engine.connect() as conn:
        rows = conn.execute(select(INSTRUMENTS.c.instrument, INSTRUMENTS.c.first, INSTRUMENTS.c.end)).all()
    assert rows == [("TINY_PRICES", date(2022, 1, 1), date(2022, 2, 24))]


def test_a_study_finds_its_own_holdout_where_another_instrument_has_the_same_dates(vault: Vault) -> None:
    with vault.engine.begin() as conn:
        keep_holdout(conn, KeptHoldout(["OTHER"], *OWN, "one"))
        keep_holdout(conn, KeptHoldout(NAMES, *OWN, "two"))
        found = holdout_of_study(conn, "two", list(map(str, OWN)))
    assert found is not None
    assert found.instruments == NAMES


def test_a_holdout_by_dates_is_checked() -> None:
    for wrong in (["2022-01-01"], ["2022-01-01", "soon"], ["2022-02-01", "2022-01-01"]):
        with pytest.raises(BadInputError, match=r"window\.holdout="):
            WindowSpec(holdout=wrong)
