"""Linear probe: a ridge regression on the agent's own inputs, traded through the agent's own ledger."""

from optimize.evaluate.probe.labels import HORIZONS, Decisions, decision_returns, known_decisions, last_known
from optimize.evaluate.probe.ridge import LinearFit, observed_columns, out_of_fold
from optimize.evaluate.probe.trade import Probe, fit_probe

__all__ = [
    "HORIZONS",
    "Decisions",
    "LinearFit",
    "Probe",
    "decision_returns",
    "fit_probe",
    "known_decisions",
    "last_known",
    "observed_columns",
    "out_of_fold",
]
