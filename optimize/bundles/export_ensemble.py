"""Export an ensemble: one bundle of the mean target of several finalists, or of the seeds of one finalist.

It is measured as itself, on the windows of its members: score, gates, flags, trades and random quantile are
its own, and it counts as a try.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from envs.plain import from_plain
from optimize.atomic import partial_folder
from optimize.bundles.ensemble import Joined, Member, join_members
from optimize.bundles.export import (
    EXPORTS_FOLDER,
    Candidate,
    Exported,
    candidate_of,
    export_candidates,
    folder_with_files,
    locked_exports,
)
from optimize.bundles.gated_rows import checks_of_ensemble, gated_rows
from optimize.bundles.gates import NO_GATES, GateSpec, accepted_flags
from optimize.bundles.titles import title_of
from optimize.database import Engine
from optimize.errors import BadInputError, WalkforgeError, require
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.report.gates import refuse_flagged
from optimize.report.luck import refresh_luck
from optimize.report.unscored import why_unscored
from optimize.results.finalists import ended_finalist_runs, load_finalist_run
from optimize.results.instrument_names import instruments_of
from optimize.results.outcome import outcome_of
from optimize.results.queries import LeaderboardRow, find_study
from optimize.results.records import RunRecord, load_baselines, load_study
from optimize.results.states import RunState, SetSource, TryKind
from optimize.results.tries import Try, record_try
from optimize.walkforward.files import finalist_folder
from optimize.walkforward.spec import read_run

OF_FINALISTS, OF_SEEDS = "finalists", "seeds"
ENSEMBLES_OF = (OF_FINALISTS, OF_SEEDS)


def export_ensemble(
    engine: Engine,
    output_dir: str | Path,
    study_name: str,
    size: int,
    echo: Callable[[str], None] = lambda line: None,
    extensions: Sequence[str] | None = None,
    gates: GateSpec = NO_GATES,
    accept: str | None = None,
    of: str = OF_FINALISTS,
) -> list[Exported]:
    """Export one bundle of the mean target of `size` members; the gates hold for members and ensemble.

    `of` finalists: the best finalists, or the best trials where no finalists were ranked; of seeds: the first
    fresh seeds of the best finalist. Raises WalkforgeError where members are too few or a gate blocks it.
    """
    require(size >= 2, "ensemble", size, "at least 2, or null")
    require(of in ENSEMBLES_OF, "ensemble_of", of, f"one of {', '.join(ENSEMBLES_OF)}", ENSEMBLES_OF)
    study = find_study(engine, study_name)
    refresh_luck(engine, study)
    passed = gated_rows(engine, study, size if of == OF_FINALISTS else 1, gates, echo)
    if not passed:
        raise WalkforgeError(why_unscored(engine, study))
    rows = tuple(each.row for each in passed)
    refuse_flagged(rows, accept)
    if of == OF_FINALISTS and len(rows) < size:
        raise WalkforgeError(
            f"ensemble={size}: {len(rows)} trials of {study} can be joined: give a smaller one"
        )
    folder = folder_with_files(engine, output_dir, study)
    if of == OF_SEEDS:
        members = _seeds(engine, study, rows[0], folder, size)
    else:
        candidates = [candidate_of(engine, each, folder) for each in passed]
        members = [Member(found.run, found.source) for found in candidates]
    with locked_exports(folder / EXPORTS_FOLDER) as exports:
        echo(f"joining {size} {of}: {', '.join(member.title for member in members)}")
        with partial_folder(exports / "ensemble_run") as source:
            joined = join_members(members, source, {})
            run = _measured(engine, study, joined)
            row = _row(run, joined)
            with engine.connect() as conn:
                windows = _sharpes(joined)
                checks = checks_of_ensemble(conn, gates, row, title_of(run), windows, passed)
            refuse_flagged([row], accept)
            target = exports / f"ensemble_{size:02d}{'_seeds' if of == OF_SEEDS else ''}"
            checks = (*checks, *accepted_flags(row))
            one = Candidate(1, run, row.score, source, target, rows, checks)
            return export_candidates(engine, study, [one], echo, extensions, refitted=False)


def _seeds(engine: Engine, study: str, row: LeaderboardRow, folder: Path, size: int) -> list[Member]:
    """Return the first fresh seeds of a finalist by number: the best ones would be chosen by their score."""
    with engine.connect() as conn:
        finalist = load_finalist_run(conn, row.run_uuid or "")
        runs = ended_finalist_runs(conn, study)
    if finalist is None:
        raise BadInputError(
            f"ensemble_of=seeds: study {study} has no finalists: run `walkforge finalists name={study}` "
            "first, or give ensemble_of=finalists, which joins the best trials"
        )
    same = [run for run in runs if run.parameter_set == finalist.parameter_set][:size]
    if len(same) < size:
        raise WalkforgeError(
            f"ensemble={size}: the finalist of trial {row.trial_number} has {len(same)} ended seeds: give a "
            f"smaller one, or run `walkforge finalists name={study} seeds={size}`"
        )
    return [
        Member(run.as_run, finalist_folder(folder, run.parameter_set, run.seed), run.seed) for run in same
    ]


def _measured(engine: Engine, study: str, joined: Joined) -> RunRecord:
    """Return the record of an ensemble with its own outcome, and count it as a try.

    Raises WalkforgeError where it has no feasible score, or one of the study's own gates blocks it.
    """
    run, spec = joined.run, read_run(joined.run.spec)
    with engine.connect() as conn:
        record, baselines = load_study(conn, study), load_baselines(conn, study)
    stored = {} if record is None else record.spec.get("gate") or {}
    gates = from_plain(ResultGateSpec, stored)
    outcome = outcome_of(spec, joined.windowed, joined.result, 0.0, baselines, gates)
    dates = [window.dates for window in joined.windowed.windows]
    with engine.begin() as conn:
        record_try(
            conn,
            Try(
                run_uuid=run.run_uuid,
                kind=TryKind.ENSEMBLE,
                study_name=study,
                symbols=instruments_of(run.spec["data"], joined.windowed.market.symbols),
                first=dates[0].test_start,
                end=dates[-1].test_end,
            ),
        )
    if outcome.state != RunState.COMPLETE:
        raise WalkforgeError(f"the {title_of(run)} has no score ({outcome.reason}): choose other members")
    if outcome.gate is not None:
        raise WalkforgeError(
            f"the {title_of(run)} is blocked by gate.{outcome.gate} of its study: choose other members"
        )
    own = {name: getattr(outcome, name) for name in ("score", "standard_error", "metrics", "flags")}
    return replace(run, **own, random_quantile=outcome.random_quantile, gate=None)


def _row(run: RunRecord, joined: Joined) -> LeaderboardRow:
    """Return the leaderboard row of an ensemble; figures that only a search has, such as luck, are None."""
    metrics = run.metrics or {}
    known = [field.name for field in fields(LeaderboardRow)]
    figures: dict[str, Any] = {name: metrics.get(name) for name in known}
    own: dict[str, Any] = {
        "rank": 1, "study_name": run.study_name, "trial_number": run.trial_number, "score": run.score,
        "runs": 1, "pruned_runs": 0, "gated_runs": 0, "flags": run.flags, "score_min": run.score,
        "score_max": run.score, "seeds": "ensemble", "standard_error": run.standard_error,
        "windows": len(joined.windowed.windows), "parameters": run.parameters, "run_uuid": run.run_uuid,
        "random_quantile": run.random_quantile, "source": SetSource.SAMPLER,
    }  # fmt: skip
    return LeaderboardRow(**figures | own)


def _sharpes(joined: Joined) -> list[float]:
    """Return the Sharpe ratio of each window, median over repeats, where every repeat has one."""
    windows = zip(*joined.result.measured, strict=True)
    sharpes = [[each.metrics.sharpe for each in repeats] for repeats in windows]
    return [
        statistics.median(each for each in window if each is not None)
        for window in sharpes
        if None not in window
    ]
