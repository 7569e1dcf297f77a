"""The truth about a trained model: its net Sharpe ratio on fresh bars of the process that made its market.

60,000 bars still leave an error of 0.38 on a Sharpe ratio. Since the expected return of every planted bar is
known, `expected` takes the part of the noise out of the mean return, which leaves next to none of that error.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.battery_edges import EDGES, NO_EDGE
from benchmarks.battery_markets import FRESH_BARS, Place, Planted, write_bars
from benchmarks.battery_oracle import exposures, signal_of
from envs.policy import Policy
from envs.types import FloatArray, Market
from optimize.bundles.evaluate import span_window
from optimize.data.cache import cached_market
from optimize.evaluate.metrics import returns_of_parts, sharpe_ratio
from optimize.evaluate.random_policies import BASELINE_REWARD
from optimize.evaluate.rollout import Evaluation, RecordedPolicy, rollout
from optimize.evaluate.windows import WindowPlan, parts_of_sessions
from optimize.extensions import load_extensions
from optimize.walkforward.markets import WindowedMarket, observe_window
from optimize.walkforward.run import WindowModel
from optimize.walkforward.spec import RunSpec

PARTS = 30  # of the fresh bars, which are played side by side


@dataclass(frozen=True)
class Truth:
    """The annual net Sharpe ratio on fresh bars, and the same without the luck of their noise."""

    realised: float
    expected: float


@dataclass(frozen=True, eq=False)
class FreshBars:
    """Fresh bars of a place as a market of some features, with the planted values of its bars."""

    windowed: WindowedMarket  # one window without training over all whole sessions
    planted: Planted
    spans: tuple[tuple[tuple[int, int], tuple[int, int]], ...]  # (bars, sessions) of each part

    @property
    def market(self) -> Market:
        """Return the market."""
        return self.windowed.market


@lru_cache(maxsize=4)
def fresh_planted(place: Place, bars: int) -> Planted:
    """Return the fresh bars of a place."""
    return place.planted(bars, fresh=True)


def fresh_bars(spec: RunSpec, place: Place, folder: Path, bars: int = FRESH_BARS) -> FreshBars:
    """Return fresh bars with the features of a spec; every contestant of a place is measured on the same."""
    planted = fresh_planted(place, bars)
    path = write_bars(place, planted, folder / "bars", f"fresh{bars}")
    load_extensions(spec.extensions)  # those of a study ran in its own processes
    data = dataclasses.replace(spec.data, path=path)
    market = cached_market(data, spec.feature, spec.session, folder / "markets")
    left = len(planted.returns) - market.n_bars
    own = Planted(planted.returns[left:], planted.drift[left:], planted.volatility[left:], planted.wicks)
    first = int(market.session[spec.feature.history]) + 1
    end = int(market.session[-1])  # the last session may be cut
    begin, stop = (market.session_date[each].item() for each in (first, end))
    window = span_window(0, begin, stop, market, spec)
    windowed = WindowedMarket(market, WindowPlan((window.dates,), None), (window,))
    return FreshBars(
        windowed, own, tuple(parts_of_sessions(market, window.test_first, window.test_last, PARTS))
    )


def truth_of_model(spec: RunSpec, fresh: FreshBars, model: WindowModel) -> Truth:
    """Return the truth about a trained agent with its representation."""
    market = observe_window(fresh.windowed, fresh.windowed.windows[0], model.representation, spec.feature)
    return truth_of_policy(spec, fresh, market, model.agent)


def truth_of_actions(spec: RunSpec, fresh: FreshBars, held: FloatArray) -> Truth:
    """Return the truth about exposures (T, A) that a rule holds through each bar of the fresh market."""
    env = dataclasses.replace(spec.env, action="continuous")
    actions = (held / env.max_leverage).astype(np.float32)
    policy = RecordedPolicy([actions[first : last + 1] for (first, last), _ in fresh.spans])
    return truth_of_policy(dataclasses.replace(spec, env=env), fresh, fresh.market, policy)


def truth_of_oracle(spec: RunSpec, fresh: FreshBars, place: Place) -> Truth:
    """Return the truth about the oracle of a place, on the same bars and through the same ledger."""
    if not fresh.planted.drift.any():
        return Truth(0.0, 0.0)
    return truth_of_actions(spec, fresh, exposures(signal_of(fresh.planted), band_of(place)))


def band_of(place: Place) -> float:
    """Return the band of the oracle of a place."""
    if place.kind == "learning":
        return EDGES["last"][4].band  # whose edge is nearly the same
    return EDGES.get(place.kind, {}).get(place.strength, NO_EDGE).band


def truth_of_policy(spec: RunSpec, fresh: FreshBars, market: Market, policy: Policy) -> Truth:
    """Return the truth about a policy on the scaled fresh market."""
    played = rollout(
        policy,
        market,
        [bars for bars, _ in fresh.spans],
        env=spec.env,
        cost=spec.cost,
        reward=BASELINE_REWARD,
        lookback=spec.feature.lookback,
    )
    luck = [luck_of(evaluation, fresh.planted).sum() for evaluation in played]
    joined = np.concatenate(returns_of_parts(market, played, fresh.spans))
    year = market.sessions_per_year
    realised = sharpe_ratio(joined, year)
    expected = sharpe_ratio(joined - sum(luck) / len(joined), year)
    return Truth(*(float(np.nan_to_num(each)) for each in (realised, expected)))


def luck_of(evaluation: Evaluation, planted: Planted) -> FloatArray:
    """Return the part of the return of each bar that its noise made, known because its drift is planted."""
    bars = evaluation.bar
    gross = np.expm1(planted.returns[bars])
    noise = gross - planted.drift[bars] - planted.volatility[bars] ** 2 / 2
    growth = evaluation.equity / np.concatenate([[1.0], evaluation.equity[:-1]])
    held = evaluation.weight * growth[:, None] / (1 + gross)  # the weight before the prices of the bar moved
    return np.asarray((held * noise).sum(axis=1))
