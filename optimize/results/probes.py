"""Linear probes of a study: one for each choice of inputs that a trial observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from envs.types import FloatArray
from optimize.database import has_table
from optimize.evaluate.captions import LINEAR_PROBE, best_baseline
from optimize.results.records import BaselineRecord
from optimize.results.rows import insert_if_absent, load_one, load_rows, values_of, where
from optimize.results.tables import PROBES

BEST_INPUTS = f"{LINEAR_PROBE} (best inputs)"
OWN_INPUTS = f"{LINEAR_PROBE} (inputs of trial {{trial}})"


@dataclass(frozen=True)
class ProbeRecord:
    """The linear probe on one choice of inputs, over the windows of a study."""

    study_name: str
    inputs: str  # hash of the settings that decide it
    timeframe: str
    lookback: int
    score: float | None  # None: it stayed flat, or was ruined
    sharpe_zero_cost: float | None
    total_return: float | None
    cost: float | None
    turnover: float | None
    seconds: float | None
    features: Any  # settings of the features
    windows: Any  # sessions, returns and choices of each window

    @property
    def returns(self) -> FloatArray:
        """Return the session returns joined over the windows."""
        return np.concatenate([np.asarray(part, np.float64) for part in self.windows["returns"]])

    def as_baseline(self, name: str = LINEAR_PROBE) -> BaselineRecord:
        """Return the record in the form of a baseline."""
        return BaselineRecord(
            study_name=self.study_name,
            timeframe=self.timeframe,
            name=name,
            score=self.score,
            sharpe_zero_cost=self.sharpe_zero_cost,
            total_return=self.total_return,
            cost=self.cost,
            turnover=self.turnover,
            windows=self.windows,
        )


def save_probe(conn: Connection, probe: ProbeRecord) -> ProbeRecord:
    """Store a probe unless one of the same inputs is stored; return the stored one."""
    insert_if_absent(conn, PROBES, values_of(probe))
    return load_one(conn, ProbeRecord, PROBES, study_name=probe.study_name, inputs=probe.inputs)


def load_probe(conn: Connection, study: str, inputs: str | None) -> ProbeRecord | None:
    """Return the probe on some inputs; None where it was not measured."""
    if inputs is None or not has_table(conn, PROBES.name):
        return None
    rows = where(PROBES, study_name=study, inputs=inputs)
    return next(iter(load_rows(conn, ProbeRecord, PROBES, rows)), None)


def load_probes(conn: Connection, study: str) -> list[ProbeRecord]:
    """Return the probes of a study, by timeframe, lookback and inputs; none in an older database."""
    if not has_table(conn, PROBES.name):
        return []
    found = load_rows(conn, ProbeRecord, PROBES, where(PROBES, study_name=study))
    return sorted(found, key=lambda each: (each.timeframe, each.lookback, each.inputs))


def probe_rows(probes: Sequence[ProbeRecord], trial: int, inputs: str | None) -> list[BaselineRecord]:
    """Return the probe of the best inputs and that of the inputs of a trial, which may be the same."""
    best = best_baseline(probes)
    own = next((each for each in probes if each.inputs == inputs), None)
    named = OWN_INPUTS.format(trial=trial)
    if own is not None and (best is None or best.inputs == own.inputs):
        return [own.as_baseline(f"{named[:-1]}, the best)" if best is own and len(probes) > 1 else named)]
    found = [] if best is None else [best.as_baseline(BEST_INPUTS)]
    return found if own is None else [*found, own.as_baseline(named)]
