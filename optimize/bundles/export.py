"""Export the best trials of a study as bundles, each verified by a replay in a new process."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from optimize.agents.artifacts import WEIGHTS
from optimize.atomic import partial_of, put_folder, remove_all_partials
from optimize.bundles.gated_rows import PassedRow, gated_rows
from optimize.bundles.gates import NO_GATES, GateCheck, GateSpec, accepted_flags, finished_trials
from optimize.bundles.holdout import refuse_to_train_on_kept
from optimize.bundles.inputs import SearchSummary, StudyBaseline
from optimize.bundles.manifest import MANIFEST_FILE, verify_bundle
from optimize.bundles.replay import Replay, WindowedMarkets, rebuild_checked, replay_bundle, trust_bundle
from optimize.bundles.spans import read_spans
from optimize.bundles.titles import members_of, title_of
from optimize.bundles.write import write_bundle
from optimize.database import Engine
from optimize.database.address import in_words
from optimize.errors import BadInputError, WalkforgeError, require
from optimize.evaluate.captions import baseline_label, best_baseline
from optimize.hashing import hash_file
from optimize.report.commands import folder_words
from optimize.report.gates import refuse_flagged
from optimize.report.luck import caution_lines, refresh_luck
from optimize.report.nested import earned_lines
from optimize.report.unscored import why_unscored
from optimize.results.event_log import last_event
from optimize.results.events import FolderMarked
from optimize.results.finalists import load_finalist_run
from optimize.results.holdout import holdout_of_study, openings_of
from optimize.results.instrument_names import instruments_of
from optimize.results.luck import load_luck, load_luck_sets
from optimize.results.queries import LeaderboardRow, best_models, find_study
from optimize.results.records import (
    ExportRecord,
    RunRecord,
    forget_exports,
    load_baselines,
    load_exports,
    load_study,
    save_export,
)
from optimize.results.runs import load_run
from optimize.spawning import enter_pool, keep_loaded, main_left_out
from optimize.walkforward.files import finalist_folder, run_folder
from optimize.walkforward.spec import read_run

EXPORTS_FOLDER, EXPORTS_LOCK = "exports", ".lock"
OLDER_PARTIAL = ".aside_"  # prefix of the partial folders of version 0.1
EXPORT_LOCK_TIMEOUT_S = 600.0
REPLAYED_ON: WindowedMarkets = {}  # markets that the replaying process keeps for the next bundle
REPLAYED, UNCHANGED, MOVED = "replayed bit for bit", "unchanged", "unchanged, moved to its new rank"
REWRITTEN = "written again (the bundle there was damaged or of another run), replayed bit for bit"


@dataclass(frozen=True)
class Exported:
    """One bundle of an export."""

    rank: int
    trial: int | None  # None: an ensemble
    score: float
    folder: Path
    outcome: str
    title: str  # the trial, or the members of an ensemble
    rows: tuple[LeaderboardRow, ...]  # its row of the leaderboard, with its luck, or those of its members


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trial or an ensemble to export, and its source and target folders."""

    rank: int
    run: RunRecord
    score: float
    source: Path  # folder of the run
    target: Path
    rows: tuple[LeaderboardRow, ...]  # its own, or those of the members of an ensemble
    checks: tuple[GateCheck, ...]  # the gates that it passed

    @property
    def trial(self) -> int:
        """Return the trial's number."""
        return self.run.trial_number

    @property
    def trial_or_none(self) -> int | None:
        """Return the trial's number, None for an ensemble."""
        return None if members_of(self.run) else self.trial

    @property
    def title(self) -> str:
        """Return the trial, or the members of an ensemble."""
        return title_of(self.run)


def export_best(
    engine: Engine,
    output_dir: str | Path,
    study_name: str,
    top_n: int,
    echo: Callable[[str], None] = lambda line: None,
    extensions: Sequence[str] | None = None,
    gates: GateSpec = NO_GATES,
    accept: str | None = None,
    refitted: bool = False,
) -> list[Exported]:
    """Export the best trials that pass the gates, one for each parameter set.

    Raises WalkforgeError where a replay differs or no trial passes. `refitted` trains each deployable policy
    on every session before the holdout.

    `echo` receives progress lines, as building a market and replaying on it take a while.
    """
    require(top_n >= 1, "top_n", top_n, "at least 1")
    study = find_study(engine, study_name)
    refresh_luck(engine, study)
    passed = gated_rows(engine, study, top_n, gates, echo)
    if not passed:
        raise WalkforgeError(why_unscored(engine, study))
    refuse_flagged([each.row for each in passed], accept)
    folder = folder_with_files(engine, output_dir, study)
    candidates = [candidate_of(engine, each, folder) for each in passed]
    with locked_exports(folder / EXPORTS_FOLDER):
        return export_candidates(engine, study, candidates, echo, extensions, refitted)


@contextmanager
def locked_exports(exports: Path) -> Iterator[Path]:
    """Hold the lock of a study's exports, whose leftovers of killed exports are deleted.

    Raises WalkforgeError where another export keeps it.
    """
    exports.mkdir(parents=True, exist_ok=True)
    lock = FileLock(exports / EXPORTS_LOCK, timeout=EXPORT_LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout:
        raise WalkforgeError(
            f"another export has held {lock.lock_file} for over {EXPORT_LOCK_TIMEOUT_S:g} s: end it, or "
            "try again"
        ) from None
    try:
        _remove_leftovers(exports)
        yield exports
    finally:
        lock.release()


def folder_with_files(engine: Engine, output_dir: str | Path, study: str) -> Path:
    """Return the folder of a study; raise BadInputError where there is none."""
    folder = Path(output_dir) / study
    if not folder.is_dir():
        raise BadInputError(
            f"output_dir={output_dir}: there is no folder {folder}{_launch_output_dir(engine, study)}"
        )
    return folder


def _remove_leftovers(exports: Path) -> None:
    """Delete the partial folders of killed exports, those of version 0.1 included."""
    remove_all_partials(exports)
    for left in exports.glob(f"{OLDER_PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def _launch_output_dir(engine: Engine, study: str) -> str:
    """Return the output_dir of a study's launch, as the end of a sentence."""
    with engine.connect() as conn:
        known = last_event(conn, [study], [FolderMarked])
    if known is None:
        return f": name the output_dir of study {study}"
    return f": its launch put the files of study {study} into output_dir={known.event.path}"


def replay_in_new_process(folders: Sequence[Path]) -> Generator[Replay | WalkforgeError, None, None]:
    """Replay bundles in one new process, which shares no state with the export."""
    if not folders:
        return
    context = multiprocessing.get_context("spawn")
    try:
        with (
            main_left_out(),
            ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=enter_pool) as executor,
        ):
            yield from executor.map(_replay, folders)
    except BrokenProcessPool:
        raise WalkforgeError(
            "the process that replays the bundles died: free memory and export again"
        ) from None


def _replay(folder: Path) -> Replay | WalkforgeError:
    keep_loaded()
    try:
        trust_bundle(folder)  # its code was copied from the study
        return replay_bundle(folder, markets=REPLAYED_ON)
    except WalkforgeError as error:
        return error


def _search_summary(engine: Engine, study: str) -> SearchSummary:
    """Return the search behind the trials of a study, as it is now."""
    tries = finished_trials(engine, study)
    year = next((row.sessions_per_year for row in best_models(engine, study, 1)), None)
    with engine.connect() as conn:
        best = best_baseline(load_baselines(conn, study))
        luck, sets = load_luck(conn, study), tuple(load_luck_sets(conn, study))
        cautions = () if luck is None else tuple(caution_lines(conn, luck))
        record = load_study(conn, study)
        stated = [] if record is None else record.spec.get("window", {}).get("holdout", [])
        instruments = [] if record is None else instruments_of(record.spec["data"])
        kept = holdout_of_study(conn, study, stated, instruments)
        opened = None if kept is None else len(openings_of(conn, kept.instruments, kept.first, kept.end))
        earned = () if record is None else tuple(earned_lines(conn, record, year))
    baseline = None
    if best is not None and best.score is not None:
        baseline = StudyBaseline(baseline_label(best.name, best.bought_anew), best.timeframe, best.score)
    return SearchSummary(tries, baseline, opened, luck, sets, cautions, earned)


def export_candidates(
    engine: Engine,
    study: str,
    candidates: Sequence[Candidate],
    echo: Callable[[str], None],
    extensions: Sequence[str] | None,
    refitted: bool,
) -> list[Exported]:
    """Keep existing bundles, write the others under partial names, replay and then rename them."""
    done = {c.rank: outcome for c in candidates if (outcome := _existing_outcome(c, refitted)) is not None}
    waiting = [c for c in candidates if c.rank not in done]
    _refuse_dropped(engine, study, waiting)
    search = _search_summary(engine, study)
    markets: WindowedMarkets = {}
    asides: list[Path] = []
    refusals: list[WalkforgeError] = []
    try:
        for place, candidate in enumerate(waiting, start=1):
            echo(f"writing bundle {place} of {len(waiting)}: {candidate.title}")
            asides.append(partial_of(candidate.target))
            run, source = candidate.run, candidate.source
            if refitted:
                where = f"trial {run.trial_number} of {study}"
                windowed = rebuild_checked(read_run(run.spec), run.data_fingerprint, where, markets)
                refuse_to_train_on_kept(engine, run, windowed)
            around = (markets, extensions, search, candidate.checks, refitted)
            write_bundle(asides[-1], run, candidate.score, source, *around)
        with closing(replay_in_new_process(asides)) as replays:
            for place, (candidate, aside) in enumerate(zip(waiting, asides, strict=True), start=1):
                of_all = f"{place} of {len(waiting)} in a process of its own"
                echo(f"replaying bundle {of_all}: {candidate.title}")
                replay = next(replays)
                if isinstance(replay, WalkforgeError) or not replay.bitwise:
                    refusals.append(_refusal(candidate, aside, replay))
                    continue
                done[candidate.rank] = REWRITTEN if candidate.target.exists() else REPLAYED
                put_folder(aside, candidate.target)
    finally:
        for aside in asides:
            shutil.rmtree(aside, ignore_errors=True)
    exported = [
        Exported(c.rank, c.trial_or_none, c.score, c.target, done[c.rank], c.title, c.rows)
        for c in candidates
        if c.rank in done
    ]
    _record(engine, study, exported, {c.rank: c.run for c in candidates})
    if refusals:
        raise refusals[0]
    return exported


def _refuse_dropped(engine: Engine, study: str, waiting: Sequence[Candidate]) -> None:
    """Refuse, before anything is written, trials whose weights were deleted in favor of better trials."""
    with engine.connect() as conn:
        record = load_study(conn, study)
    kept = (record.spec if record else {}).get("keep_models", len(waiting))
    there = (c for c in waiting if c.rank > kept and c.source.parent.is_dir())
    gone = [c for c in there if not any(c.source.rglob(WEIGHTS))]
    if gone:
        first, remedy = gone[0], f"export top_n={gone[0].rank - 1}"
        place = folder_words(first.source.parents[2])
        anew = f"`walkforge replay name={study} trial={first.trial}{in_words(engine.url)}{place}`"
        raise WalkforgeError(
            f"{study} keeps the models of its best trials alone (keep_models={kept}), and those of trial "
            f"{first.trial} (rank {first.rank}) are gone: {remedy}, or {anew} trains it anew "
            "and puts its models back"
        )


def candidate_of(engine: Engine, passed: PassedRow, folder: Path) -> Candidate:
    """Return the run of a leaderboard row, a trial's or a finalist's, with its folders."""
    row, checks = passed.row, (*passed.checks, *accepted_flags(passed.row))
    with engine.connect() as conn:
        run = None if row.run_uuid is None else load_run(conn, row.run_uuid)
        finalist = None if run is not None else load_finalist_run(conn, row.run_uuid or "")
    if finalist is not None:
        source = finalist_folder(folder, finalist.parameter_set, finalist.seed)
        return Candidate(row.rank, finalist.as_run, row.score, source, _target(row, folder), (row,), checks)
    if run is None:
        raise WalkforgeError(
            f"trial {row.trial_number} of {row.study_name} lost its run while it was looked at: export again"
        )
    source = run_folder(folder, row.trial_number, run.run_uuid)
    return Candidate(row.rank, run, row.score, source, _target(row, folder), (row,), checks)


def _target(row: LeaderboardRow, folder: Path) -> Path:
    return folder / EXPORTS_FOLDER / f"{row.rank:02d}_trial_{row.trial_number:04d}"


def _existing_outcome(candidate: Candidate, refitted: bool) -> str | None:
    """Return the outcome of an intact bundle of this run, moved to its rank; None if it must be written."""
    if _is_whole(candidate.target, candidate.run.run_uuid, refitted):
        return UNCHANGED
    for other in sorted(candidate.target.parent.glob(f"[0-9]*_trial_{candidate.trial:04d}")):
        if other != candidate.target and _is_whole(other, candidate.run.run_uuid, refitted):
            put_folder(other, candidate.target)
            return MOVED
    return None


def _is_whole(folder: Path, run_uuid: str, refitted: bool) -> bool:
    """Return whether a folder holds the bundle of a run with the deployable policy that is asked for."""
    try:
        same = verify_bundle(folder).run_uuid == run_uuid
        return same and (read_spans(folder).refit_until is not None) == refitted
    except BadInputError:  # absent or damaged
        return False


def _refusal(candidate: Candidate, aside: Path, replay: Replay | WalkforgeError) -> WalkforgeError:
    head = f"{candidate.title} of {candidate.run.study_name} is refused"
    if isinstance(replay, WalkforgeError):
        return type(replay)(f"{head}: {str(replay).replace(str(aside), 'its bundle')}")
    return WalkforgeError(f"{head}: stored {replay.stored!r}, replayed {replay.replayed!r}: {replay.verdict}")


def _record(engine: Engine, study: str, exported: Sequence[Exported], runs: dict[int, RunRecord]) -> None:
    with engine.begin() as conn:
        records = load_exports(conn, study)
        paths = {record.bundle: Path(record.bundle) for record in records}  # a relative one may be elsewhere
        forget_exports(
            conn, [name for name, path in paths.items() if path.is_absolute() and not path.is_dir()]
        )
        known = {(os.path.abspath(record.bundle), record.manifest_sha256) for record in records}
        for one in exported:
            digest = hash_file(one.folder / MANIFEST_FILE)
            if (os.path.abspath(one.folder), digest) not in known:
                run = runs[one.rank]
                saved = (run.trial_number, run.run_uuid, one.rank, one.score, digest)
                save_export(conn, ExportRecord(str(one.folder), study, *saved))
