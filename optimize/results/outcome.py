"""Records of a run: the rows of its windows and, at its end, its state, score and metrics."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from envs.types import FloatArray, Market
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.gates import GateRule, blocking_gate, flags_of
from optimize.evaluate.random_policies import random_quantile
from optimize.evaluate.summary import WindowResult, summarise
from optimize.evaluate.windows import Window, train_start
from optimize.results.probes import ProbeRecord
from optimize.results.records import SCORE_ERROR, BaselineRecord, Outcome, WindowRecord, random_levels
from optimize.results.states import RunState
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import TrialResult
from optimize.walkforward.spec import RunSpec

DEFAULT_GATES = ResultGateSpec()


def window_record(
    run_uuid: str, market: Market, window: Window, repeat: int, measured: WindowResult, returns_path: str
) -> WindowRecord:
    """Return the row of one finished window."""
    dates, metrics = window.dates, dataclasses.asdict(measured.metrics)
    same = {f.name for f in dataclasses.fields(WindowRecord)} & metrics.keys()
    return WindowRecord(
        run_uuid=run_uuid,
        window=window.index,
        repeat=repeat,
        train_start=train_start(window, market),
        train_end=dates.train_end,
        test_start=dates.test_start,
        test_end=dates.test_end,
        train_bars=window.train_last - window.train_first + 1,
        test_bars=metrics["bars"],
        seconds=measured.seconds,
        returns_path=returns_path,
        reward_active_share=measured.reward_active_share,
        trained_steps=measured.trained_steps,
        sharpe_validation=measured.sharpe_validation,
        **{name: metrics[name] for name in same},
    )


def gate_rule(spec: RunSpec, gates: ResultGateSpec, sessions_per_year: float) -> GateRule:
    """Return the gates of a study with the settings of a run that they depend on."""
    return GateRule(gates, spec.env.max_leverage, spec.score.risk_free, sessions_per_year)


def outcome_of(
    spec: RunSpec,
    windowed: WindowedMarket,
    result: TrialResult,
    seconds: float,
    baselines: Sequence[BaselineRecord],
    gates: ResultGateSpec = DEFAULT_GATES,
    probe: ProbeRecord | None = None,
) -> Outcome:
    """Return COMPLETE for a finite, feasible score of all windows, else PRUNED with its reason.

    The reason of a run that a pruner stopped is left to the caller, which knows the pruner.
    """
    year, risk_free = windowed.market.sessions_per_year, spec.score.risk_free
    timeframe = spec.data.target
    hold = next((b for b in baselines if b.timeframe == timeframe and b.name == BUY_AND_HOLD), None)
    metrics: dict[str, float | None] = {**summarise(result.measured, year, risk_free, _returns_of(hold))}
    metrics["buy_and_hold"] = None if hold is None else hold.score
    metrics["sessions_per_year"] = windowed.market.sessions_per_year
    metrics[SCORE_ERROR] = result.score.standard_error
    metrics |= beside_probe(result.measured, None if probe is None else probe.returns, year)
    metrics["probe_score"] = None if probe is None else probe.score
    gate, flags = marks_of(spec, windowed, result, gates, metrics["sharpe"])
    outcome = Outcome(
        RunState.PRUNED,
        seconds,
        standard_error=result.score.standard_error,
        metrics=metrics,
        gate=gate,
        flags=flags,
        inputs=None if probe is None else probe.inputs,
    )
    if result.pruned_at is not None:
        return outcome
    if not result.score.feasible:
        return dataclasses.replace(outcome, reason=result.score.reason)
    value = result.score.value
    quantile = random_quantile(random_levels(baselines, timeframe), metrics["turnover"], value)
    return dataclasses.replace(outcome, state=RunState.COMPLETE, score=value, random_quantile=quantile)


def beside_probe(
    measured: Sequence[Sequence[WindowResult]], probe: FloatArray | None, sessions_per_year: float
) -> dict[str, float | None]:
    """Return the annualised Sharpe ratio above that of the linear probe, and its standard error.

    They are of the repeat of the lower median lead, by the paired test of Ledoit and Wolf; None where a
    series does not vary or a window is missing.
    """
    lead: dict[str, float | None] = {"probe_lead": None, "probe_lead_error": None}
    if probe is None:
        return lead
    from optimize.evaluate.luck.paired import ledoit_wolf_test  # loads parts of scipy that few verbs need

    rows = [np.concatenate([window.returns for window in row]) for row in measured]
    tests = [ledoit_wolf_test(first=row, second=probe) for row in rows if 4 < len(row) == len(probe)]
    known = sorted((each.difference, each.standard_error) for each in tests if np.isfinite(each.difference))
    if known:
        difference, error = known[(len(known) - 1) // 2]
        year = float(np.sqrt(sessions_per_year))
        lead = {"probe_lead": difference * year, "probe_lead_error": error * year}
    return lead


def marks_of(
    spec: RunSpec,
    windowed: WindowedMarket,
    result: TrialResult,
    gates: ResultGateSpec,
    sharpe: float | None,
) -> tuple[str | None, str | None]:
    """Return the first gate that blocks a result and its flags as stored; None where it has none."""
    flags = flags_of(
        gates,
        sharpe=sharpe or 0.0,
        market=windowed.market,
        provider=spec.data.provider,
        cash_rate=spec.cost.cash_rate,
        risk_free=spec.score.risk_free,
    )
    rule = gate_rule(spec, gates, windowed.market.sessions_per_year)
    return blocking_gate(rule, result.measured), ", ".join(flags) or None


def _returns_of(baseline: BaselineRecord | None) -> FloatArray | None:
    """Return the joined session returns of a baseline, None where they were not stored."""
    windows = (None if baseline is None else baseline.windows) or {}
    returns = windows.get("returns")
    return None if not returns else np.concatenate([np.asarray(part, np.float64) for part in returns])
