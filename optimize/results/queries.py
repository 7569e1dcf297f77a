"""Named SQL files, the leaderboard, and the trials without a note on optuna-dashboard."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import resources
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, bindparam, inspect, select, text

from optimize.database import has_table, reading
from optimize.database.address import in_words, url_text
from optimize.errors import BadInputError, near_hint, require
from optimize.results.orphans import renamed_studies, stored_studies
from optimize.results.records import SCORE_ERROR
from optimize.results.states import FINISHED
from optimize.results.study_names import is_nested, searched_name, typed_name
from optimize.results.tables import RUNS, STUDIES, WINDOWS
from optimize.results.views import OPTUNA_TABLES, refuse_foreign, with_views

_BEST = "SELECT * FROM best_models WHERE study_name = :name ORDER BY score DESC, trial_number LIMIT :limit"
_SPREADS = "SELECT trial_number, mean, deviation FROM parameter_sets WHERE study_name = :name"
_BEST_SCORE = "SELECT MAX(score) FROM best_models WHERE study_name = :name"
_HEALTH = "SELECT * FROM study_health WHERE study_name = :name"
_SPREAD = text('SELECT "window", sharpe FROM wf_windows WHERE run_uuid = :run_uuid ORDER BY "window", repeat')

# Figures of a run that the views do not have.
FROM_METRICS = (
    "exposure",
    "max_drawdown_bars",
    "best_session",
    "sessions_per_year",
    "sharpe_in_sample",
    "walk_forward_efficiency",
)


@dataclass(frozen=True)
class LeaderboardRow:
    """One of the best models of a study, with the spread of the Sharpe ratio over its windows.

    The Sharpe ratio of a window is the median over its repeats, as in the score and its standard error.

    It represents a parameter set by the run of the lower median score among all runs of the set; a PRUNED
    run counts below every score.
    """

    rank: int
    study_name: str
    trial_number: int
    score: float
    runs: int  # of the set, that were COMPLETE or PRUNED
    pruned_runs: int
    gated_runs: int  # of the set, that a gate blocks
    flags: str | None  # reasons to doubt the result, separated by commas
    score_min: float  # of the set's COMPLETE runs
    score_max: float
    seeds: str  # "single seed", or how many: of each run as many as it has repeats
    standard_error: float | None  # of the score; None: unknown, or an older version measured another
    window_sharpe_min: float | None
    window_sharpe_median: float | None
    window_sharpe_max: float | None
    windows: int
    sharpe_zero_cost: float | None
    buy_and_hold: float | None
    total_return: float | None
    max_drawdown: float | None  # over session closes
    max_drawdown_bars: float | None  # over bar closes; None: written by an older version
    cost: float | None
    trades: float | None
    turnover: float | None
    exposure: float | None  # mean over bars of the sum of |weights|
    best_session: float | None  # its return; None: written by an older version
    sessions_per_year: float | None  # by which the score is annualised; None: written by an older version
    sharpe_in_sample: float | None  # mean of the train spans; None: written by an older version
    walk_forward_efficiency: float | None  # Sharpe ratio out of sample over that in sample
    seconds: float | None
    parameters: Mapping[str, Any]  # exact; the view has 15 digits of a float
    run_uuid: str | None  # None for a trial that was finished by hand
    # Luck of the run, None where it was not measured; Sharpe ratios are annualised.
    sharpe_low: float | None  # 95 % interval of the Sharpe ratio of its session returns
    sharpe_high: float | None
    psr: float | None  # probability that its true Sharpe ratio is above 0
    deflated_sharpe_ratio: float | None  # probability that it is above the one that chance alone would show
    chance_sharpe: float | None
    p_flat: float | None  # after all tries
    p_buy_and_hold: float | None
    n_tries: int | None  # on this instrument and these dates
    as_of_trials: int | None  # of the study that had ended when it was measured
    random_quantile: float | None  # share of random policies of its turnover that score lower; None: unknown
    source: str  # of its parameters, one of SetSource
    probe_score: float | None  # of the linear probe on the same inputs; None: it stayed flat, or not measured
    probe_lead: float | None  # annualised Sharpe ratio above that of the probe, and its standard error
    probe_lead_error: float | None
    inputs: str | None  # hash of the settings that decide the probe


def list_queries() -> list[tuple[str, str]]:
    """Return the name and the first comment line of every query file, by name."""
    every = resources.files("optimize.queries").iterdir()
    files = (file for file in every if file.name.endswith(".sql") and file.is_file())
    described = (
        (file.name, file.read_bytes().decode("utf-8", "replace").partition("\n")[0]) for file in files
    )
    return sorted((name.removesuffix(".sql"), line.removeprefix("--").strip()) for name, line in described)


def check_query(name: str) -> None:
    """Refuse an unknown name of a query."""
    names = [known for known, _ in list_queries()]
    if name not in names:
        choices = f"choose one of {', '.join(names)}{near_hint(name, names)}"
        raise BadInputError(f"sql={name!r} is not a query of this package: {choices}")


def query_parameters(name: str) -> list[str]:
    """Return the names of the parameters that a query takes, sorted."""
    return sorted(text(_sql_of(name)).compile().params)


def shows_luck(name: str) -> bool:
    """Return whether a query has columns of luck, which go stale as tries are added."""
    return "as_of_trials" in _sql_of(name)


def _sql_of(name: str) -> str:
    check_query(name)
    return resources.files("optimize.queries").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def run_query(
    engine: Engine, name: str, parameters: Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a named query on a connection that cannot write; return its columns and rows."""
    sql, wanted = _sql_of(name), query_parameters(name)
    if sorted(parameters) != wanted:
        given = ", ".join(sorted(parameters)) or "none"
        raise BadInputError(f"sql={name}: the query takes the parameters {', '.join(wanted)}, got {given}")
    with _reading(engine) as conn:
        found = conn.execute(text(with_views(conn, sql)), dict(parameters))
        return list(found.keys()), [tuple(row) for row in found]


def best_models(engine: Engine, study_name: str, limit: int = 10) -> list[LeaderboardRow]:
    """Return the best models of a study, best first."""
    require(limit >= 1, "limit", limit, ">= 1")
    with _reading(engine) as conn:
        found = conn.execute(text(with_views(conn, _BEST)), {"name": study_name, "limit": limit})
        best = found.mappings().all()
        return [
            _row(rank, row, window_sharpes(conn, row["run_uuid"]), _of_run(conn, row["run_uuid"]))
            for rank, row in enumerate(best, start=1)
        ]


def set_spreads(engine: Engine, study_name: str) -> dict[int, dict[str, float | None]]:
    """Return mean and deviation of the scores of each parameter set, by the trial that represents it."""
    with _reading(engine) as conn:
        found = conn.execute(text(with_views(conn, _SPREADS)), {"name": study_name}).mappings()
        return {row["trial_number"]: {"mean": row["mean"], "deviation": row["deviation"]} for row in found}


def best_score(conn: Connection, study_name: str) -> float | None:
    """Return the score of the best parameter set of a study, as best_models has it, or None."""
    score: float | None = conn.execute(text(with_views(conn, _BEST_SCORE)), {"name": study_name}).scalar()
    return score


def health_of(conn: Connection, study_name: str) -> RowMapping:
    """Return the row of a study in the view study_health."""
    return conn.execute(text(with_views(conn, _HEALTH)), {"name": study_name}).mappings().one()


def all_studies(engine: Engine) -> list[str]:
    """Return every study of a database, in the order in which they were started."""
    with _reading(engine) as conn:
        return list(stored_studies(conn))


def studies_of(engine: Engine, name: str) -> list[str]:
    """Return the study of that name, or its phases in order; raise BadInputError where there is none."""
    with _reading(engine) as conn:
        known = list(stored_studies(conn))
        refuse_renamed(conn, name)
    if name in known:
        return [name]
    found = [phase for phase in (f"{name}.timeframe", f"{name}.model") if phase in known]
    if found:
        return found
    typed = list(dict.fromkeys(map(typed_name, known)))
    hint = near_hint(name, [*typed, *known])
    where = f"this database holds no such study ({url_text(engine.url)})"
    said = f"name={name!r}: {where}" if name.strip("?") else "name is missing"
    choices = f"choose one of {', '.join(typed)}" if typed else "it holds none yet: start one"
    raise BadInputError(f"{said}: {choices}{hint}")


def family_of(engine: Engine, name: str) -> list[str]:
    """Return the study of that name, its phases and the studies of its nested walk-forward, those first."""
    with _reading(engine) as conn:
        known = list(stored_studies(conn))
        refuse_renamed(conn, name)
    inside = [study for study in known if study.startswith(f"{name}.")]
    nested = [study for study in inside if is_nested(study)]
    own = [study for study in known if study == name or (study in inside and study not in nested)]
    return [*nested, *own] or studies_of(engine, name)


def refuse_renamed(conn: Connection, name: str) -> None:
    """Refuse a study that Optuna's tools renamed, by its old name, its new one, or that of its phases."""
    for record, present in renamed_studies(conn).items() if has_table(conn, STUDIES.name) else ():
        if name in (record, present, searched_name(record), searched_name(present)):
            raise BadInputError(
                f"name={name!r}: study {record!r} was renamed to {present!r} by Optuna's tools, and its "
                f"records and folder bear the name {record!r}: `walkforge doctor repair=true"
                f"{in_words(conn.engine.url)}` gives it that name again"
            )


def find_study(engine: Engine, name: str) -> str:
    """Return the study of that name, else its model phase, else its timeframe phase."""
    return studies_of(engine, name)[-1]


def window_sharpes(conn: Connection, run_uuid: str | None) -> list[float]:
    """Return the Sharpe ratio of each window, median over repeats, where every repeat has one."""
    found = conn.execute(_SPREAD, {"run_uuid": run_uuid}).all()
    windows = [[sharpe for _, sharpe in group] for _, group in groupby(found, key=lambda row: row[0])]
    return [statistics.median(sharpes) for sharpes in windows if None not in sharpes]


def _of_run(conn: Connection, run_uuid: str | None) -> dict[str, Any]:
    """Return the figures and the parameters of a run, none of a trial that was finished by hand."""
    found = conn.execute(select(RUNS.c.metrics, RUNS.c.parameters).where(RUNS.c.run_uuid == run_uuid)).first()
    metrics, parameters = ({}, {}) if found is None else (found.metrics or {}, found.parameters)
    figures = {name: metrics.get(name) for name in FROM_METRICS}
    return figures | {"standard_error": metrics.get(SCORE_ERROR), "parameters": parameters}


def _row(rank: int, row: RowMapping, sharpes: Sequence[float], of_run: Mapping[str, Any]) -> LeaderboardRow:
    shown = json.loads(row["parameters"])  # with 15 digits of a float
    own = {
        "rank": rank,
        **of_run,
        "window_sharpe_min": min(sharpes, default=None),
        "window_sharpe_median": statistics.median(sharpes) if sharpes else None,
        "window_sharpe_max": max(sharpes, default=None),
        "parameters": {key: of_run["parameters"].get(key, value) for key, value in shown.items()},
    }
    return LeaderboardRow(**own, **{f.name: row[f.name] for f in fields(LeaderboardRow) if f.name not in own})


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """Yield a read-only connection to a database that holds the tables of the views."""
    refuse_foreign(engine)
    if not set(inspect(engine).get_table_names()) >= OPTUNA_TABLES | {RUNS.name, WINDOWS.name}:
        raise BadInputError(
            f"database.url={url_text(engine.url)}: this database holds no study yet; "
            "start one, or name the database that holds it"
        )
    with reading(engine) as conn:
        yield conn


_WITHOUT = text(
    "SELECT r.trial_number FROM wf_runs r JOIN studies s ON s.study_name = r.study_name "
    "JOIN trials t ON t.study_id = s.study_id AND t.number = r.trial_number "
    "WHERE r.study_name = :study AND r.state IN :states AND NOT EXISTS ("
    "SELECT 1 FROM study_system_attributes a WHERE a.study_id = s.study_id "
    "AND a.key = 'dashboard' || :colon || t.trial_id || :suffix) "
    "GROUP BY r.trial_number ORDER BY MAX(r.score) IS NULL, MAX(r.score) DESC, r.trial_number"
).bindparams(bindparam("states", expanding=True))


def without_note(conn: Connection, study: str) -> list[int]:
    """Return the finished trials without a note, the best first, those without a score last."""
    values = {
        "study": study,
        "colon": ":",
        "suffix": ":note_ver",
        "states": [str(state) for state in FINISHED],
    }
    return list(conn.execute(_WITHOUT, values).scalars())
