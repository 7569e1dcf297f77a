"""The linear probe beside a trial: measured once for each choice of inputs, and stored in the study."""

import time
from dataclasses import asdict

from envs.plain import to_plain
from optimize.database import Engine
from optimize.results.probes import ProbeRecord, load_probe, save_probe
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.probe import evaluate_probe, inputs_key
from optimize.walkforward.spec import RunSpec


def probe_beside(engine: Engine, study: str, spec: RunSpec, windowed: WindowedMarket) -> ProbeRecord:
    """Return the probe on the inputs of a configuration, from the database or measured and stored."""
    inputs = inputs_key(spec)
    with engine.connect() as conn:
        stored = load_probe(conn, study, inputs)
    if stored is not None:
        return stored
    measured = _measure(study, inputs, spec, windowed)
    with engine.begin() as conn:
        return save_probe(conn, measured)


def _measure(study: str, inputs: str, spec: RunSpec, windowed: WindowedMarket) -> ProbeRecord:
    began = time.process_time()
    found = evaluate_probe(spec, windowed)
    dates = [windowed.market.session_date[slice(*window.test_sessions)] for window in windowed.windows]
    baseline = found.baseline
    return ProbeRecord(
        study_name=study,
        inputs=inputs,
        timeframe=spec.data.target,
        lookback=spec.feature.lookback,
        score=baseline.score,
        sharpe_zero_cost=baseline.sharpe_zero_cost,
        total_return=baseline.total_return,
        cost=baseline.cost,
        turnover=sum(window.turnover for window in baseline.windows),
        seconds=time.process_time() - began,
        features=to_plain(spec.feature),
        windows={
            "sessions": [[str(day) for day in window] for window in dates],
            "returns": [window.tolist() for window in baseline.returns],
            "choices": [None if each is None else asdict(each) for each in found.choices],
        },
    )
