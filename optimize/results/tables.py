"""Tables of Walkforge, beside those of Optuna in the same database.

They are keyed by a run uuid or by (study name, trial number), never by Optuna's trial_id, which SQLite
reuses after a delete. Timestamps are text, ISO 8601 in UTC with milliseconds and offset; leases count in
epoch seconds, because they are compared by arithmetic.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from optimize.results.column_types import AnyText, DayText, FiniteFloat, JsonText, StateText, UtcText
from optimize.results.states import LuckVerdict, RunState, TryKind

METADATA = MetaData()

# Metrics of a run that queries filter by: each has a column, beside the JSON with all metrics.
METRIC_COLUMNS = (
    "total_return",
    "max_drawdown",
    "cost",
    "turnover",
    "trades",
    "sharpe_zero_cost",
    "buy_and_hold",
    "max_drawdown_bars",  # over bar closes; max_drawdown is over session closes
    "probe_score",  # of the linear probe on the same inputs
    "probe_lead",  # annualised Sharpe ratio above that of the probe, with its standard error
    "probe_lead_error",
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _json(name: str, key: str, *, keep_order: bool = False) -> Column[Any]:
    return Column(name, JsonText(keep_order=keep_order), key=key)


def _real(*names: str) -> list[Column[float]]:
    return [Column(name, FiniteFloat) for name in names]


STUDIES = Table(
    "wf_studies",
    METADATA,
    Column("study_name", Text, primary_key=True),
    _text("phase"),
    *(Column(name, BigInteger, nullable=False) for name in ("n_trials", "seed", "max_failures")),
    _json("spec_json", "spec", keep_order=True),
    _json("space_json", "space", keep_order=True),
    _text("space_hash"),
    _json("score_json", "score"),
    _text("score_hash"),
    _text("data_fingerprint"),
    _json("versions_json", "versions"),
    Column("created_at", UtcText, nullable=False),
)

RUNS = Table(
    "wf_runs",
    METADATA,
    Column("run_uuid", Text, primary_key=True),
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("repetition", Integer, nullable=False),
    Column("state", StateText(RunState), nullable=False),
    *_real("score", "standard_error"),
    *(Column(name, AnyText) for name in ("reason", "failure_kind", "failure_message", "traceback")),
    *_real("seconds"),
    Column("started_at", UtcText, nullable=False),
    Column("finished_at", UtcText),
    _json("parameters_json", "parameters"),
    _json("spec_json", "spec"),
    _json("entropy_json", "entropy"),
    _json("versions_json", "versions"),
    _text("data_fingerprint"),
    *_real(*METRIC_COLUMNS),
    _json("metrics_json", "metrics"),
    Column("parameter_set", Text),  # hash of the parameters; NULL: an older version wrote the run
    Column("random_quantile", FiniteFloat),  # share of random policies of equal turnover that score lower
    Column("gate", Text),  # the first gate that blocks the run; NULL: none does
    Column("flags", Text),  # reasons to doubt the result, separated by commas; NULL: none
    Column("inputs", Text),  # hash of the settings of the linear probe; NULL: an older version wrote the run
    Index(
        "wf_runs_of_state", "study_name", "trial_number", "state", "attempt"
    ),  # for the run that ended a trial
    Index("wf_runs_ended", "study_name", "finished_at"),  # read before every trial that is claimed
    # Read after every trial to choose the weights to keep; it covers that query.
    Index(
        "wf_runs_of_set", "study_name", "parameter_set", "score", "trial_number", "state", "gate", "run_uuid"
    ),
)

LEASES = Table(
    "wf_leases",
    METADATA,
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    _text("run_uuid"),
    Column("token", Integer, nullable=False),
    _text("host"),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("worker", Integer, nullable=False),
    Column("renewed_at", Float, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("window", Integer),
    Column("supervisor_pid", Integer),
    *_real("supervisor_started"),
    PrimaryKeyConstraint("study_name", "trial_number"),
)

WINDOWS = Table(
    "wf_windows",
    METADATA,
    _text("run_uuid"),
    Column("window", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    *(
        Column(name, DayText, nullable=False)
        for name in ("train_start", "train_end", "test_start", "test_end")
    ),
    Column("train_bars", Integer, nullable=False),
    Column("test_bars", Integer, nullable=False),
    *_real("sharpe", "sharpe_zero_cost", "total_return", "max_drawdown", "volatility"),
    *_real("turnover", "cost", "trades", "exposure", "seconds"),
    Column("returns_path", Text),
    *_real("forced_exits", "reward_active_share", "max_drawdown_bars"),
    *_real("sharpe_in_sample", "largest_exposure", "liquidations", "trained_steps", "sharpe_validation"),
    Column("gate", Text),  # the first gate that blocks the windows up to this one; NULL: none does
    PrimaryKeyConstraint("run_uuid", "window", "repeat"),
)

SESSION_RETURNS = Table(
    "wf_returns",  # simple net returns of a window, in the order of its test sessions
    METADATA,
    _text("run_uuid"),
    Column("window", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    _json("returns_json", "returns", keep_order=True),
    _json("drawdowns_json", "drawdowns", keep_order=True),  # deepest of each session, from the window's peak
    PrimaryKeyConstraint("run_uuid", "window", "repeat"),
)

TEST_SESSIONS = Table(
    "wf_sessions",  # dates of the test sessions of a window, equal for all trials of a study
    METADATA,
    _text("study_name"),
    Column("window", Integer, nullable=False),
    _json("sessions_json", "sessions", keep_order=True),
    PrimaryKeyConstraint("study_name", "window"),
)

BASELINES = Table(
    "wf_baselines",
    METADATA,
    _text("study_name"),
    _text("timeframe"),
    _text("name"),
    *_real("score", "sharpe_zero_cost", "total_return", "cost", "turnover"),
    _json("windows_json", "windows"),
    Column("seeds", Integer),  # random policies behind the row, which is their median one; NULL: a single one
    *_real("score_low", "score_high"),  # 5 % and 95 % of the scores of those policies
    _json("scores_json", "scores", keep_order=True),  # of each of them, rising, null first
    PrimaryKeyConstraint("study_name", "timeframe", "name"),
)

PROBES = Table(
    "wf_probes",  # the linear probe on one choice of inputs, measured by the first trial that observed them
    METADATA,
    _text("study_name"),
    _text("inputs"),
    _text("timeframe"),
    Column("lookback", Integer, nullable=False),
    *_real("score", "sharpe_zero_cost", "total_return", "cost", "turnover", "seconds"),
    _json("features_json", "features"),  # settings of the features
    _json("windows_json", "windows", keep_order=True),  # sessions, returns and choices of each window
    PrimaryKeyConstraint("study_name", "inputs"),
)

FINALISTS = Table(
    "wf_finalists",  # one parameter set retrained on fresh seeds, by the latest measurement
    METADATA,
    _text("study_name"),
    _text("parameter_set"),
    Column("rank", Integer, nullable=False),
    Column("trial_number", Integer, nullable=False),  # of the run that the search scored the set by
    *_real("search_score", "fresh_score", "lower_bound", "upper_bound"),
    *_real("score_mean", "score_deviation", "score_min", "score_max", "random_quantile"),
    Column("seeds", Integer, nullable=False),
    Column("infeasible", Integer, nullable=False),  # of the seeds
    Column("run_uuid", Text),  # of the median seed; NULL: fewer than half of the seeds are feasible
    Column("gate", Text),  # the gate that blocks the median seed; NULL: none does
    Column("flags", Text),  # reasons to doubt the result of the median seed
    _json("parameters_json", "parameters"),
    Column("measured_at", UtcText, nullable=False),
    PrimaryKeyConstraint("study_name", "parameter_set"),
)

FINALIST_RUNS = Table(
    "wf_finalist_runs",  # one training of a parameter set on a fresh seed; its windows are in wf_windows
    METADATA,
    Column("run_uuid", Text, primary_key=True),
    _text("study_name"),
    _text("parameter_set"),
    Column("seed", Integer, nullable=False),
    Column("trial_number", Integer, nullable=False),
    Column("state", StateText(RunState), nullable=False),
    *_real("score", "standard_error"),
    *(Column(name, AnyText) for name in ("reason", "failure_kind", "failure_message", "traceback")),
    *_real("seconds", "random_quantile"),
    Column("gate", Text),
    Column("flags", Text),
    Column("started_at", UtcText, nullable=False),
    Column("finished_at", UtcText),
    _json("parameters_json", "parameters"),
    _json("spec_json", "spec"),
    _json("entropy_json", "entropy"),
    _json("versions_json", "versions"),
    _text("data_fingerprint"),
    _json("metrics_json", "metrics"),
    Index("wf_finalist_runs_of_set", "study_name", "parameter_set", "seed", unique=True),
)

FINALIST_STRESS = Table(
    "wf_finalist_stress",  # the stored agents of a finalist's run, evaluated again under a worse market
    METADATA,
    _text("run_uuid"),
    _text("scenario"),
    *_real("score", "sharpe", "total_return", "max_drawdown", "cost", "turnover", "trades"),
    Column("reason", AnyText),  # why it has no score; NULL where it has one
    PrimaryKeyConstraint("run_uuid", "scenario"),
)

FINALIST_HOLDOUTS = Table(
    "wf_finalist_holdouts",  # the newest agent of a finalist's run, evaluated on the holdout of its study
    METADATA,
    Column("run_uuid", Text, primary_key=True),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    *_real("score", "sharpe", "total_return", "max_drawdown", "cost", "turnover", "trades", "buy_and_hold"),
    Column("reason", AnyText),  # why it has no score; NULL where it has one
    Column("opened_at", UtcText, nullable=False),  # of the opening in wf_holdout_openings
)

TRIED_RUNS = Table(
    "wf_tries",  # runs with an evaluated window; they stay when their study is deleted
    METADATA,
    Column("run_uuid", Text, primary_key=True),
    Column("kind", StateText(TryKind), nullable=False),
    _text("study_name"),
    Column("trial_number", Integer),
    Column("symbols_json", JsonText(), key="symbols", nullable=False),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    Column("tried_at", UtcText, nullable=False),
)

LUCK_TESTS = Table(
    "wf_luck_tests",  # the verdict on the best parameter set of a study, as of its last measurement
    METADATA,
    Column("study_name", Text, primary_key=True),
    *(Column(name, StateText(LuckVerdict), nullable=False) for name in ("verdict", "verdict_buy_and_hold")),
    *(Column(name, Integer) for name in ("trial_number", "trial_buy_and_hold")),
    *_real("sharpe", "p_flat", "p_buy_and_hold", "critical_flat", "critical_buy_and_hold"),
    *_real("chance_sharpe", "detectable_sharpe"),
    *(Column(name, Integer, nullable=False) for name in ("n_sessions", "n_sets", "n_pruned")),
    *(Column(name, Integer, nullable=False) for name in ("n_tries", "n_tries_all", "n_held", "as_of_trials")),
)

LUCK = Table(
    "wf_luck",  # of each parameter set with a score, by its run of the lower median
    METADATA,
    _text("study_name"),
    _text("parameter_set"),
    _text("run_uuid"),
    Column("trial_number", Integer, nullable=False),
    *_real("sharpe_low", "sharpe_high", "psr", "deflated_sharpe_ratio", "chance_sharpe"),
    *_real("p_flat", "p_buy_and_hold"),
    Column("n_tries", Integer, nullable=False),
    Column("as_of_trials", Integer, nullable=False),
    PrimaryKeyConstraint("study_name", "parameter_set"),
)

EXPORTS = Table(
    "wf_exports",
    METADATA,
    Column("bundle", Text, primary_key=True),
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    _text("run_uuid"),
    Column("rank", Integer, nullable=False),
    *_real("score"),
    _text("manifest_sha256"),
    Column("exported_at", UtcText, nullable=False),
)

EVENTS = Table(
    "wf_events",
    METADATA,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    _text("study_name"),
    Column("at", UtcText, nullable=False),
    _text("kind"),
    Column("message", AnyText, nullable=False),
    _json("detail_json", "detail"),
    Index("wf_events_of_study", "study_name", "kind"),
)

HOLDOUT_OPENINGS = Table(
    "wf_holdout_openings",
    METADATA,
    Column("opening_id", Integer, primary_key=True, autoincrement=True),
    _json("symbols_json", "symbols"),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    *(_text(name) for name in ("study_name", "run_uuid", "bundle", "purpose", "host")),
    Column("opened_at", UtcText, nullable=False),
    *_real("score"),  # on the opened span; NULL: not measured, or an older version opened it
)

HOLDOUTS = Table(
    "wf_holdouts",  # spans that are in no window of any study, fixed when they are first cut
    METADATA,
    Column("holdout_id", Integer, primary_key=True, autoincrement=True),
    _json("instruments_json", "instruments"),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    _text("study_name"),
    Column("cut_at", UtcText, nullable=False),
    Column("spent_at", UtcText),  # NULL: it was never opened
)

INSTRUMENTS = Table(
    "wf_instruments",  # session closes of each instrument, which link the names under which its bars are read
    METADATA,
    Column("instrument_id", Integer, primary_key=True, autoincrement=True),
    _text("instrument"),
    _json("same_as_json", "same_as"),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    _json("closes_json", "closes"),
    Column("stored_at", UtcText, nullable=False),
)

TRASH = Table(
    "wf_trash",  # orphaned rows of the other tables, unchanged
    METADATA,
    Column("trash_id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("why", AnyText, nullable=False),
    Column("row_json", Text, nullable=False),
)
