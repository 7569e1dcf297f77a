import numpy as np
import pytest

from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import FloatArray, Market
from optimize.evaluate.probe.labels import HORIZONS, decision_returns, known_decisions, last_known
from optimize.evaluate.rollout import RecordedPolicy, rollout
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

BARS = 6 * 12


def gapped(assets: int = 1, exits: bool = False) -> Market:
    close = random_walk(BARS, assets=assets, seed=3)
    gaps = np.exp(np.random.default_rng(4).normal(0, 0.01, close.shape))
    market = make_market(close, open=close * gaps, timeframe="4h")
    # 4 h bars: positions are closed at the last open of a day, on every other day at its last close only
    return with_exits(market, range(5, BARS, 12), range(5, BARS, 6)) if exits else market


def paid_by_ledger(market: Market, fill: str, bar: int, horizon: int) -> float:
    """Return the log return of full exposure, ordered at a bar and given up h bars later or at the exit."""
    env = EnvSpec(action="continuous", fill=fill, rebalance_band=0.9)
    ordered = np.arange(bar, bar + horizon + 1)
    same = market.session[ordered + (fill == "open")] == market.session[bar + (fill == "open")]
    has_exits = bool(market.exit_at_open.any() or market.exit_at_close.any())
    actions = (same if has_exits else np.ones_like(same)).astype(np.float32)[:, None]
    paid = rollout(
        RecordedPolicy([actions]),
        market,
        [(bar + 1, bar + 1 + horizon)],
        env=env,
        cost=CostSpec.free(0.0),
        reward=RewardSpec(),
        lookback=1,
    )
    return float(np.log(paid[0].equity[-1]))


@pytest.mark.parametrize("exits", [False, True])
@pytest.mark.parametrize("fill", ["open", "close"])
def test_a_label_is_the_return_that_the_ledger_pays(fill: str, exits: bool) -> None:
    market = gapped(exits=exits)
    found = decision_returns(market, at_open=fill == "open")
    for place, horizon in enumerate(HORIZONS):
        for bar in range(20, 20 + 12):
            expected = paid_by_ledger(market, fill, bar, horizon)
            label = found[bar, 0, place]
            assert (0.0 if np.isnan(label) else label) == pytest.approx(expected, abs=1e-12)
    assert bool(np.isnan(found[20:32]).any()) is exits


def test_a_decision_that_opens_nothing_has_no_label() -> None:
    tradable = np.ones((BARS, 2), bool)
    tradable[10, 0] = False
    market = make_market(random_walk(BARS, assets=2), tradable=tradable)
    at_open, at_close = (decision_returns(market, at_open=each) for each in (True, False))
    assert np.isnan(at_open[9, 0]).all()
    assert np.isnan(at_close[10, 0]).all()
    assert np.isfinite(at_open[9, 1]).all()
    known = known_decisions(market, 0, BARS - 1, at_open=True)
    assert known.labels[9, 0].tolist() == [0.0] * len(HORIZONS)


def test_decisions_of_a_span_are_closed_within_it() -> None:
    market, last = gapped(), 50
    known = known_decisions(market, 5, last, at_open=True)
    assert (known.bars[0], known.bars[-1]) == (5, last - max(HORIZONS) - 1)
    assert last_known(5, last, 4, at_open=False) == last - 4
    assert last_known(5, 6, 16, at_open=True) == 4
    changed = gapped()
    prices: list[FloatArray] = [changed.open, changed.high, changed.low, changed.close]
    for array in prices:
        array[last + 1 :] *= 7.0
    again = known_decisions(changed, 5, last, at_open=True)
    np.testing.assert_array_equal(again.labels, known.labels)
