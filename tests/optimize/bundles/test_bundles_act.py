"""The next order of a bundle from raw bars is the order that the backtest gave at that very bar."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.spec import EnvSpec
from envs.types import Market
from optimize.bundles.act import Decision
from optimize.bundles.export import export_best
from optimize.bundles.load import Bundle, load_bundle
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.sessions import session_table
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.rollout import Evaluation, rollout
from optimize.evaluate.windows import WindowSpec
from tests.optimize.data.samples import bars_at, stamp
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices

FIRST, LAST = "2023-09-05", "2023-12-08"  # with a clock change, Thanksgiving and the half day after it
HALF_DAY = "2023-11-24"
STEP_NS = 30 * 60 * 10**9


@dataclasses.dataclass(frozen=True, eq=False)
class Live:
    """A bundle, its bars as a frame, and the backtest of its deployable policy over its last test span."""

    bundle: Bundle
    frame: pd.DataFrame
    market: Market
    evaluation: Evaluation
    since: str

    def until(self, row: int) -> pd.DataFrame:
        """Return the bars up to a market row."""
        return self.frame.loc[: pd.Timestamp(int(self.market.timestamp[row]), tz="UTC")]

    def decide(self, row: int) -> Decision:
        """Return the decision at the close of a market row, from the bars up to it."""
        return self.bundle.act(self.until(row), since=self.since)


def write_stock(path: Path) -> pd.DataFrame:
    table = session_table("XNYS", stamp(FIRST), stamp(LAST))
    inside = (table.date >= np.datetime64(FIRST)) & (table.date <= np.datetime64(LAST))
    spans = zip(table.open_ns[inside], table.close_ns[inside], strict=True)
    bars = bars_at(np.concatenate([np.arange(opened, closed, STEP_NS) for opened, closed in spans]), "30m")
    prices = {name: getattr(bars, name)[:, 0] for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame(prices, index=pd.DatetimeIndex(bars.timestamp, tz="UTC", name="timestamp"))
    frame.reset_index().to_parquet(path)
    return frame


@pytest.fixture(scope="module", params=["continuous", "discrete"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Live:
    folder = tmp_path_factory.mktemp("live")
    frame = write_stock(folder / "stock.parquet")
    spec = tiny_spec(
        folder,
        folder / "stock.parquet",
        data=DataSpec(provider="file", path=str(folder / "stock.parquet"), timeframe="30m"),
        feature=FeatureSpec(lookback=2, indicators=["returns", "range"]),
        env=EnvSpec(action=request.param, rebalance_band=0.0005, max_leverage=0.9),
        session=SessionSpec(calendar="XNYS"),
        window=WindowSpec(count=2, train_ratio=1.0, min_train_bars=50, holdout_share=0.1),
        n_trials=1,
    )
    context = run_all(spec)
    (exported,) = export_best(context.engine, spec.output_dir, "tiny", 1)
    context.close()
    bundle = load_bundle(exported.folder)
    market = build_market(spec.data, spec.feature, spec.session)
    last = bundle.spans.train_ends[-1]
    since = str(market.session_date[np.searchsorted(market.session_date, np.datetime64(last)) + 1])
    first = int(np.searchsorted(market.session, np.searchsorted(market.session_date, np.datetime64(since))))
    scaled = bundle.observed(market)
    (evaluation,) = rollout(
        bundle.agent, scaled, [(first, market.n_bars - 1)],
        env=spec.env, cost=spec.cost, reward=spec.reward, lookback=spec.feature.lookback,
    )  # fmt: skip
    return Live(bundle, frame, market, evaluation, since)


def rows_of(live: Live, day: str) -> list[int]:
    """Return the market rows of a session, and the last row before it."""
    ordinal = int(np.searchsorted(live.market.session_date, np.datetime64(day)))
    rows = np.flatnonzero(live.market.session == ordinal)
    return [int(rows[0]) - 1, *rows.tolist()]


def test_every_bar_of_a_session_gives_the_order_of_the_backtest(live: Live) -> None:
    day = str(live.market.session_date[live.market.session[live.evaluation.bar[30]]])
    traded = 0
    for row in rows_of(live, day):
        decision = live.decide(row)
        place = int(np.flatnonzero(live.evaluation.bar == row + 1)[0])
        (order,) = decision.orders
        held = live.evaluation.weight[place - 1, 0]
        assert order.holding == pytest.approx(held, abs=1e-6)  # the backtest ran as one kernel
        assert order.trades == (live.evaluation.quantity[place, 0] != 0.0), decision
        assert decision.bar == f"{np.datetime64(int(live.market.timestamp[row]), 'ns').astype('M8[s]')}Z"
        assert (
            decision.fills_at
            == f"{np.datetime64(int(live.market.timestamp[row + 1]), 'ns').astype('M8[s]')}Z"
        )
        traded += order.trades
        if live.market.exit_at_open[row + 1]:
            assert order.target == 0.0 or not order.trades
    assert traded > 0


def test_a_session_cut_in_its_middle_still_holds_its_position(live: Live) -> None:
    """Version 0.1 closed the newest bar of a cut session as if the session ended there."""
    rows = rows_of(live, str(live.market.session_date[live.market.session[live.evaluation.bar[30]]]))
    held = [live.decide(row).orders[0].holding for row in rows[3:8]]
    assert any(abs(weight) > 0.0 for weight in held)


def test_the_half_day_is_named_with_its_exit(live: Live) -> None:
    row = rows_of(live, HALF_DAY)[2]
    session = live.decide(row).session
    assert "2023-11-24 of XNYS" in session
    assert "early close, 180 minutes before the usual" in session
    assert "forced exit from 2023-11-24T17:45:00Z" in session


def test_an_order_of_a_friday_expires_with_the_first_bar_of_monday(live: Live) -> None:
    assert live.decide(rows_of(live, HALF_DAY)[-1]).expires_at == "2023-11-27T15:00:00Z"


def test_nothing_is_opened_after_the_exit_time(live: Live) -> None:
    late = rows_of(live, "2023-11-28")[-2]  # its order would fill at 15:30, which is before 15:45
    closing = live.bundle.act(
        live.frame.loc[: pd.Timestamp(int(live.market.timestamp[late]), tz="UTC")], holding=0.5
    )
    assert closing.fills_at.endswith("20:30:00Z")
    last = rows_of(live, "2023-11-28")[-1]
    following = live.bundle.act(
        live.frame.loc[: pd.Timestamp(int(live.market.timestamp[last]), tz="UTC")], holding=0.0
    )
    assert following.fills_at == "2023-11-29T14:30:00Z"
    assert following.session.startswith("2023-11-29 of XNYS")


def test_the_last_bar_without_an_exit_bar_shows_its_order_before_the_close(live: Live) -> None:
    """Bars of 30 minutes have none at or after 15:45: the order fills at 15:30, and 16:00 closes the rest."""
    checked = 0
    for day in ("2023-11-27", "2023-11-28", "2023-11-29", "2023-11-30"):
        row = rows_of(live, day)[-2]
        assert live.market.exit_at_close[row + 1]
        (order,) = live.decide(row).orders
        place = int(np.flatnonzero(live.evaluation.bar == row + 1)[0])
        exited = live.evaluation.exit_quantity[place, 0]
        assert (order.target != 0.0) == (exited != 0.0), order
        assert np.sign(order.target) == -np.sign(exited)
        if exited:
            assert f"closed at the last close, {day}T21:00:00Z" in order.reason
            checked += 1
    assert checked > 0


def test_an_exit_closes_a_given_holding(live: Live) -> None:
    spec = dataclasses.replace(live.bundle.spec, session=SessionSpec("XNYS", True, "15:30"))
    bundle = dataclasses.replace(live.bundle, spec=spec)
    row = rows_of(live, "2023-11-28")[-2]
    (order,) = bundle.act(live.until(row), holding=0.5).orders
    assert (order.trades, order.target) == (True, 0.0)
    assert "forced exit" in order.reason
    (still,) = bundle.act(live.until(row), holding=0.0).orders
    assert not still.trades


def test_a_bar_that_has_not_ended_is_left_out(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.bundles.act.now", lambda: datetime(2023, 11, 28, 15, 10, tzinfo=UTC))
    decision = live.bundle.act(live.frame, holding=0.0)
    assert decision.bar == "2023-11-28T14:30:00Z"
    assert decision.known_at == "2023-11-28T15:00:00Z"


@pytest.mark.parametrize(
    ("holding", "words"),
    [
        ("much", "holding='much'"),
        ([0.1, 0.2], "holding="),
        ({"OTHER": 1.0}, "OTHER"),
        (float("nan"), "holding=nan"),
    ],
)
def test_a_wrong_holding_is_refused(live: Live, holding: float, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        live.bundle.act(live.frame, holding=holding)


def test_a_holding_that_no_order_and_no_drift_brings_about_is_refused(live: Live) -> None:
    with pytest.raises(BadInputError, match=r"holding=1\.5 .* at most 1 of equity in all"):
        live.bundle.act(live.frame, holding=1.5)
    (note,) = [text for text in live.bundle.act(live.frame, holding=-1.2).notes if "holding" in text]
    assert note == "the holding of STOCK is 1.20 of equity, over env.max_leverage=0.9"


def test_the_age_of_old_bars_is_told_in_years(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.bundles.act.now", lambda: datetime(2033, 12, 8, tzinfo=UTC))
    notes = live.bundle.act(live.frame, holding=0.0).notes
    assert notes[-1].startswith("the newest bar ended 10.0 years ago, and the bar in which the order fills")


def test_an_order_fills_no_earlier_than_its_session_opens(live: Live) -> None:
    day = rows_of(live, "2023-11-28")[0]
    early = live.until(day)
    hours = early.set_axis(pd.DatetimeIndex(early.index).floor("h"), axis=0)
    hours = hours[~hours.index.duplicated(keep="last")]  # an hour closes where its last half hour does
    spec = dataclasses.replace(
        live.bundle.spec, data=dataclasses.replace(live.bundle.spec.data, timeframe="1h")
    )
    decision = dataclasses.replace(live.bundle, spec=spec).act(hours, holding=0.0)
    assert decision.next_bar == "2023-11-28T14:00:00Z"
    assert decision.fills_at == "2023-11-28T14:30:00Z"
    assert "2023-11-28T14:30:00Z to 2023-11-28T21:00:00Z" in decision.session


def test_a_frame_that_names_another_symbol_is_refused(live: Live) -> None:
    with pytest.raises(BadInputError, match="bars of STOCK: column 'symbol' names AAPL"):
        live.bundle.act(live.frame.assign(symbol="AAPL"), holding=0.0)
    live.bundle.act(live.frame.assign(symbol="stock"), holding=0.0)


def test_a_symbol_without_a_bar_at_the_decision_keeps_its_holding(tmp_path: Path) -> None:
    frames = {
        name: pd.read_parquet(write_prices(tmp_path / f"{name}.parquet", seed=seed)).set_index("timestamp")
        for seed, name in enumerate(("aa", "bb"))
    }
    data = DataSpec(provider="file", path=str(tmp_path / "{symbol}.parquet"), symbols=["aa", "bb"])
    context = run_all(tiny_spec(tmp_path, tmp_path, data=data, n_trials=1, env=EnvSpec(rebalance_band=0.0)))
    (exported,) = export_best(context.engine, context.spec.output_dir, "tiny", 1)
    context.close()
    bundle = load_bundle(exported.folder)
    held = {"aa": 0.2, "bb": 0.3}
    both = bundle.act(frames, holding=held)
    assert [order.trades for order in both.orders] == [True, True]
    decision = bundle.act(frames | {"bb": frames["bb"].iloc[:-22]}, holding=held)
    one, other = decision.orders
    assert one.trades
    assert (other.trades, other.target, other.reason) == (False, 0.3, "no bar: no order")
    notes = [note for note in decision.notes if "no bar" in note]
    assert notes == ["bb: no bar at the decision (up to 22.0 hours behind the others), so no order"]


def test_a_wrong_since_is_refused(live: Live) -> None:
    with pytest.raises(BadInputError, match=r"since='soon'.*2024-01-31"):
        live.bundle.act(live.frame, since="soon")
    with pytest.raises(BadInputError, match="since=2030-01-01"):
        live.bundle.act(live.frame, since="2030-01-01")


def test_bars_of_another_market_are_refused(live: Live) -> None:
    hours = pd.date_range(FIRST, LAST, freq="30min", tz="UTC", name="timestamp")
    around_the_clock = live.frame.iloc[np.arange(len(hours)) % len(live.frame)].set_axis(hours)
    with pytest.raises(BadInputError, match="outside the sessions of XNYS, which the bundle trades"):
        live.bundle.act(around_the_clock, holding=0.0)


def test_other_columns_and_indices_are_refused(live: Live) -> None:
    with pytest.raises(BadInputError, match="no column close"):
        live.bundle.act(live.frame.drop(columns="close"))
    with pytest.raises(BadInputError, match="DatetimeIndex"):
        live.bundle.act(live.frame.reset_index())
    with pytest.raises(BadInputError, match="no frame for STOCK"):
        live.bundle.act({"OTHER": live.frame})
