import json
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.types import DateArray, Market
from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowSpec, place_windows, plan_windows, purge_bars
from tests.markets import make_market, random_walk


def loose(**changes: Any) -> WindowSpec:
    return WindowSpec(min_train_bars=1, min_test_bars=1, **changes)


def days(count: int) -> DateArray:
    return np.arange("2024-01-01", np.datetime64("2024-01-01") + count, dtype="datetime64[D]")


def market_of(sessions: int, timeframe: str = "4h") -> Market:
    bars = {"1h": 24, "4h": 6, "12h": 2, "1d": 1}[timeframe]
    return make_market(random_walk(sessions * bars), timeframe=timeframe)


def test_rolling_layout_by_hand() -> None:
    plan = plan_windows(WindowSpec(count=4, train_ratio=3.0, holdout_share=0.15), days(100))
    # 85 usable sessions, 85 / 7 -> 12 a test; the remainder of one goes to the first train span
    first, last = plan.windows[0], plan.windows[-1]
    assert (first.train_start, first.train_end) == (date(2024, 1, 1), date(2024, 2, 7))
    assert (first.test_start, first.test_end) == (date(2024, 2, 7), date(2024, 2, 19))
    assert (last.train_start, last.test_end) == (date(2024, 2, 7), date(2024, 3, 26))
    assert plan.holdout == (date(2024, 3, 26), date(2024, 4, 10))
    assert plan.test_sessions == 48


def test_no_holdout_reaches_the_last_session() -> None:
    plan = plan_windows(WindowSpec(holdout_share=0.0), days(70))
    assert plan.holdout is None
    assert plan.windows[-1].test_end == date(2024, 3, 11)


def test_expanding_trains_grow() -> None:
    plan = plan_windows(WindowSpec(kind="expanding"), days(90))
    assert {window.train_start for window in plan.windows} == {date(2024, 1, 1)}
    lengths = [(window.train_end - window.train_start).days for window in plan.windows]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == len(lengths)


@settings(max_examples=60, deadline=None)
@given(
    sessions=st.integers(30, 120),
    kind=st.sampled_from(["rolling", "expanding"]),
    count=st.integers(1, 5),
    train_ratio=st.floats(1.0, 4.0),
    embargo=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.05, 0.15, 0.3]),
    lookback=st.integers(1, 12),
    purge=st.integers(1, 4),
)
def test_windows_never_leak(
    sessions: int,
    kind: str,
    count: int,
    train_ratio: float,
    embargo: int,
    share: float,
    lookback: int,
    purge: int,
) -> None:
    spec = loose(
        kind=kind, count=count, train_ratio=train_ratio, embargo_sessions=embargo, holdout_share=share
    )
    try:
        plan = plan_windows(spec, days(sessions))
    except BadInputError:
        return
    edges = [(w.train_start, w.train_end, w.test_start, w.test_end) for w in plan.windows]
    assert all(a < b <= c < d for a, b, c, d in edges)
    assert all((c - b).days == embargo for _, b, c, _ in edges)
    assert all(before[3] == after[2] for before, after in pairwise(edges))
    usable_end = plan.holdout[0] if plan.holdout else date(2024, 1, 1) + timedelta(days=sessions)
    assert edges[-1][3] == usable_end
    for timeframe in ("4h", "12h"):
        market = market_of(sessions, timeframe)
        try:
            windows = place_windows(plan, market, purge_bars=purge, lookback=lookback, spec=spec)
        except BadInputError:
            continue
        for window in windows:
            assert window.train_first >= lookback - 1
            assert window.test_first - 1 >= lookback - 1
            assert window.train_last + purge < window.test_first
            assert window.train_first <= window.train_last
            tested = market.session_date[market.session[window.test_first : window.test_last + 1]]
            assert tested[0] == np.datetime64(window.dates.test_start)
            assert tested[-1] == np.datetime64(window.dates.test_end) - 1
            assert window.test_sessions[1] - window.test_sessions[0] == window.dates.test_sessions
            trained = market.session[window.train_last + purge]
            assert market.session_date[trained] < np.datetime64(window.dates.train_end)
        assert all(a.test_last < b.test_first for a, b in pairwise(windows))
        assert market.session_date[market.session[windows[-1].test_last]] < np.datetime64(usable_end)


def test_purge_shortens_the_train_end_only() -> None:
    market, spec = market_of(60), loose()
    plan = plan_windows(spec, market.session_date)
    bare = place_windows(plan, market, purge_bars=0, lookback=1, spec=spec)
    purged = place_windows(plan, market, purge_bars=purge_bars("open", 5), lookback=1, spec=spec)
    assert purge_bars("open", 5) == 6
    assert purge_bars("close", 1) == 1
    for before, after in zip(bare, purged, strict=True):
        assert before.train_last == before.test_first - 1
        assert after == replace(before, train_last=before.train_last - 6, purge_bars=6)


def test_embargo_is_a_gap_of_sessions_on_top_of_the_purge() -> None:
    market, spec = market_of(60), loose(embargo_sessions=2)
    windows = place_windows(
        plan_windows(spec, market.session_date), market, purge_bars=2, lookback=1, spec=spec
    )
    assert all(window.test_first - 1 - window.train_last == 2 * 6 + 2 for window in windows)


def test_session_without_bars_counts_and_moves_nothing() -> None:
    full, spec = market_of(60), loose()
    plan = plan_windows(spec, full.session_date)
    hole = plan.windows[0].test_start
    keep = full.session_date[full.session] != np.datetime64(hole)
    arrays = ("timestamp", "bar_end", "open", "high", "low", "close", "tradable", "features", "session")
    holed = replace(full, **{name: getattr(full, name)[keep] for name in arrays})
    assert plan_windows(spec, holed.session_date) == plan
    window = place_windows(plan, holed, purge_bars=2, lookback=1, spec=spec)[0]
    bars = window.test_last - window.test_first + 1
    assert bars == 6 * (window.dates.test_sessions - 1)
    assert window.test_sessions[1] - window.test_sessions[0] == window.dates.test_sessions


SPANS = [
    {
        "train_start": "2024-01-01",
        "train_end": "2024-02-01",
        "test_start": "2024-02-01",
        "test_end": "2024-02-11",
    },
    {
        "train_start": "2024-01-11",
        "train_end": "2024-02-11",
        "test_start": "2024-02-11",
        "test_end": "2024-02-21",
    },
]


def test_listed_spans_snap_to_sessions_from_spec_and_file(tmp_path: Path) -> None:
    weekdays = days(60)[np.is_busday(days(60))]
    path = tmp_path / "windows.json"
    path.write_text(json.dumps(SPANS))
    listed = plan_windows(WindowSpec("canonical", holdout_share=0.0, spans=SPANS), weekdays)
    assert listed == plan_windows(WindowSpec(holdout_share=0.0, file=str(path)), weekdays)
    assert listed.windows[0].test_end == date(2024, 2, 12)  # a Sunday snaps to the Monday after it
    assert listed.windows[1].test_start == date(2024, 2, 12)
    assert [window.test_sessions for window in listed.windows] == [7, 7]


def test_embargo_shortens_listed_trains() -> None:
    bare, gapped = (
        plan_windows(
            WindowSpec("canonical", holdout_share=0.0, spans=SPANS, embargo_sessions=embargo), days(60)
        )
        for embargo in (0, 3)
    )
    for before, after in zip(bare.windows, gapped.windows, strict=True):
        assert after == replace(before, train_end=before.train_end - timedelta(days=3))


@pytest.mark.parametrize(
    ("change", "share", "message"),
    [
        ({"train_end": "2024-02-30"}, 0.0, r"window.spans\[1\] has a value that is not an ISO date"),
        ({"train_end": "2024-02-12"}, 0.0, r"window.spans\[1\] is out of order"),
        ({"train_end": "2024-02-09", "test_start": "2024-02-10"}, 0.0, "do not overlap"),
        ({"test_end": "2024-04-01"}, 0.0, "the data from 2024-01-01 to 2024-03-01"),
        ({}, 0.3, r"window.spans\[1\].test_end=2024-02-21 reaches into the holdout"),
        ({"note": "x"}, 0.0, "exactly the keys train_start, train_end"),
    ],
)
def test_bad_spans_are_refused(change: dict[str, str], share: float, message: str) -> None:
    spec = WindowSpec("canonical", holdout_share=share, spans=[SPANS[0], SPANS[1] | change])
    with pytest.raises(BadInputError, match=message) as caught:
        plan_windows(spec, days(60))
    assert "\n" not in str(caught.value)


def test_bad_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    with pytest.raises(BadInputError, match=r"window\.file: there is no file .*windows\.json"):
        plan_windows(WindowSpec(file=str(path)), days(60))
    path.write_text("[")
    with pytest.raises(BadInputError, match="cannot be read as JSON"):
        plan_windows(WindowSpec(file=str(path)), days(60))
    path.write_text("{}")
    with pytest.raises(BadInputError, match="a JSON list"):
        plan_windows(WindowSpec(file=str(path)), days(60))


@pytest.mark.parametrize(
    ("spec", "lookback", "message"),
    [
        (WindowSpec(min_train_bars=125), 1, "window 1 .*2024-.* bars, needs 125.*window.min_train_bars"),
        (WindowSpec(min_train_bars=1, min_test_bars=50), 1, "has 42 test bars, needs 50"),
        (loose(), 400, "window 0 .* has 0 train bars"),
    ],
)
def test_too_few_bars_name_window_and_remedy(spec: WindowSpec, lookback: int, message: str) -> None:
    market = market_of(60)
    plan = plan_windows(spec, market.session_date)
    with pytest.raises(BadInputError, match=message):
        place_windows(plan, market, purge_bars=2, lookback=lookback, spec=spec)


def test_too_few_sessions_and_bad_values_are_refused() -> None:
    with pytest.raises(BadInputError, match="do not fit into the 4 sessions"):
        plan_windows(WindowSpec(), days(5))
    with pytest.raises(BadInputError, match=r"window.kind='random'"):
        WindowSpec(kind="random")
    with pytest.raises(BadInputError, match=r"window.holdout_share"):
        WindowSpec(holdout_share=1.0)
    with pytest.raises(BadInputError, match=r"window.spans"):
        WindowSpec(kind="canonical")


def test_market_of_another_calendar_is_refused() -> None:
    plan = plan_windows(loose(), days(60))
    with pytest.raises(BadInputError, match="plan the windows on the same data"):
        place_windows(plan, market_of(45), purge_bars=2, lookback=1, spec=loose())
