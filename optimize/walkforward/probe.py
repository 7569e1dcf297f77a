"""The linear probe of a configuration as a baseline: on the agent's own inputs, windows, rules and costs."""

from dataclasses import dataclass, replace

import numpy as np

from envs.actions import flat_action
from envs.plain import to_plain
from envs.spec import EnvSpec
from optimize.evaluate.baselines import Baseline, measure_policy
from optimize.evaluate.captions import LINEAR_PROBE
from optimize.evaluate.probe import HORIZONS, Probe, fit_probe
from optimize.evaluate.rollout import RecordedPolicy
from optimize.hashing import hash_object
from optimize.walkforward.markets import WindowedMarket, fit_to_window, market_key
from optimize.walkforward.spec import RunSpec


@dataclass(frozen=True)
class ProbeChoice:
    """The choices of one window's probe on its train span."""

    horizon: int  # bars
    band: float | None  # share of the largest exposure; None: it stays flat
    penalty: float  # times the number of rows
    train_sharpe: float  # annualised, net, by forecasts out of fold


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """The probe of a configuration over all windows; no choice where a train span is too short for one."""

    baseline: Baseline
    choices: tuple[ProbeChoice | None, ...]


def evaluate_probe(spec: RunSpec, windowed: WindowedMarket) -> ProbeResult:
    """Fit a probe on the purged train span of each window and trade its test span at the same costs."""
    actions, choices = [], []
    space = spec.env.action_space(windowed.market.n_assets)
    for window in windowed.windows:
        _, market = fit_to_window(spec, windowed, window)
        probe = fit_probe(
            market,
            (window.train_first, window.train_last),
            env=spec.env,
            cost=spec.cost,
            lookback=spec.feature.lookback,
            risk_free=spec.score.risk_free,
        )
        span = (window.test_first, window.test_last)
        flat = np.full((span[1] - span[0] + 1, *(space.shape or ())), flat_action(space), dtype=space.dtype)
        actions.append(flat if probe is None else probe.actions(market, *span, spec.env))
        choices.append(None if probe is None else _choice(probe))
    baseline = measure_policy(
        LINEAR_PROBE,
        None,
        RecordedPolicy(actions),
        windowed.market,
        windowed.windows,
        spec.env,
        spec.cost,
        spec.feature.lookback,
        spec.score,
    )
    return ProbeResult(baseline, tuple(choices))


def _choice(probe: Probe) -> ProbeChoice:
    band = probe.band if np.isfinite(probe.band) else None
    penalty = float(probe.fit.penalty[probe.horizon])
    return ProbeChoice(HORIZONS[probe.horizon], band, penalty, probe.train_sharpe)


def inputs_key(spec: RunSpec) -> str:
    """Return a text that is equal for two configurations whose agents have one linear probe.

    It stands for the market with its windows, the order rules and the costs; training episodes do not count.
    """
    default = EnvSpec()
    rules = replace(spec.env, episode=default.episode, episode_bars=default.episode_bars)
    return hash_object([market_key(spec), to_plain(spec.feature), to_plain(rules), to_plain(spec.cost)])
