"""Write the best trials of a study as bundles; only what replays in a fresh process gets its name."""

import multiprocessing
import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine

from optimize.agents.files import WEIGHTS
from optimize.data.durable import sync
from optimize.database.address import in_words
from optimize.errors import BadInputError, WalkforgeError, require
from optimize.evaluate.baselines import baseline_label
from optimize.hashing import hash_file
from optimize.results.launches import FOLDER
from optimize.results.queries import (
    LeaderboardRow,
    best_baseline,
    find_study,
    health_of,
    leaderboard,
    studies_of,
)
from optimize.results.records import (
    ExportRecord,
    RunRecord,
    forget_exports,
    last_event,
    load_baselines,
    load_exports,
    load_study,
    save_export,
)
from optimize.results.runs import complete_but_untold, load_run
from optimize.study.devices import main_left_out
from optimize.study.export.bundle import Grounds, Replay, replay_bundle, trust_bundle
from optimize.study.export.card import Search, StudyBaseline
from optimize.study.export.contents import write_bundle
from optimize.study.export.manifest import MANIFEST, verify_bundle
from optimize.study.files import folder_words, run_folder

EXPORTS, LOCK, ASIDE = "exports", ".lock", ".aside_"
LOCK_TIMEOUT_S = 600.0
REPLAYED_ON: Grounds = {}  # in the process that replays, from bundle to bundle
Say = Callable[[str], None]
REPLAYED, UNCHANGED, MOVED = "replayed bit for bit", "unchanged", "unchanged, moved to its new rank"
REWRITTEN = "written again (the bundle there was damaged or of another run), replayed bit for bit"


@dataclass(frozen=True)
class Exported:
    """One bundle of an export."""

    rank: int
    trial: int
    score: float
    folder: Path
    outcome: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trial that is to be exported, and where."""

    rank: int
    run: RunRecord
    score: float
    source: Path  # folder of the run
    target: Path

    @property
    def trial(self) -> int:
        """Return the trial's number."""
        return self.run.trial_number


def export_best(
    engine: Engine,
    output_dir: str | Path,
    study_name: str,
    top_n: int,
    say: Say = lambda line: None,
    extensions: Sequence[str] | None = None,
) -> list[Exported]:
    """Export the best trials, one a parameter set; raise WalkforgeError for one that does not replay.

    `say` is told what is being done: to build a market and replay on it takes a while.
    """
    require(top_n >= 1, "top_n", top_n, "at least 1")
    study = find_study(engine, study_name)
    rows = _with_runs(engine, study, top_n, say)
    if not rows:
        raise WalkforgeError(why_none(engine, study))
    if len(rows) < top_n:
        say(f"top_n={top_n} were asked for; {len(rows)} distinct trials are feasible")
    folder = Path(output_dir) / study
    if not folder.is_dir():
        raise BadInputError(f"output_dir={output_dir}: there is no folder {folder}{_lies_in(engine, study)}")
    candidates = [_candidate(engine, row, folder) for row in rows]
    exports = folder / EXPORTS
    exports.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(exports / LOCK, timeout=LOCK_TIMEOUT_S):
            _sweep(exports)
            return _export(engine, study, candidates, say, extensions)
    except Timeout:
        raise WalkforgeError(
            f"another export has held {exports / LOCK} for over {LOCK_TIMEOUT_S:g} s: end it, or try again"
        ) from None


def _lies_in(engine: Engine, study: str) -> str:
    """Return where the launch of a study put its files, as the end of a sentence."""
    with engine.connect() as conn:
        known = last_event(conn, [study], [FOLDER])
    if known is None:
        return f": name the output_dir of study {study}"
    return f": its launch put the files of study {study} into output_dir={known.detail['path']}"


def _with_runs(engine: Engine, study: str, top_n: int, say: Say) -> list[LeaderboardRow]:
    """Return the best rows of the leaderboard that have a run of Walkforge; say which are left out."""
    limit = top_n
    while True:
        rows = leaderboard(engine, study, limit)
        found = [row for row in rows if row.run_uuid is not None][:top_n]
        if len(found) == top_n or len(rows) < limit:
            break
        limit *= 2
    last = found[-1].rank if len(found) == top_n else len(rows)
    if by_hand := [row for row in rows[:last] if row.run_uuid is None]:
        named = ", ".join(f"{row.trial_number} (rank {row.rank})" for row in by_hand)
        say(f"left out, as they were told by hand and have no run of Walkforge behind their score: {named}")
    return found


def replay_afresh(folders: Sequence[Path]) -> Iterator[Replay | WalkforgeError]:
    """Replay bundles in one new process, which knows nothing of how they were written."""
    if not folders:
        return
    context = multiprocessing.get_context("spawn")
    try:
        with (
            main_left_out(),
            ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=end_with_parent) as executor,
        ):
            yield from executor.map(_replay, folders)
    except BrokenProcessPool:
        raise WalkforgeError(
            "the process that replays the bundles died: free memory and export again"
        ) from None


def end_with_parent() -> None:
    """End this process with the one that started it: an executor outlives a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "the pool starts this process"
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _replay(folder: Path) -> Replay | WalkforgeError:
    try:
        trust_bundle(folder)  # its code is that of the study
        return replay_bundle(folder, grounds=REPLAYED_ON)
    except WalkforgeError as error:
        return error


def _search(engine: Engine, study: str) -> Search:
    """Return how many trials of all phases the best of a study were chosen from, and the best baseline."""
    phases = studies_of(engine, study.rpartition(".")[0] or study)
    with engine.connect() as conn:
        found = [health_of(conn, phase) for phase in phases]
        best = best_baseline(load_baselines(conn, study))
    tries = sum(each["complete"] + each["pruned"] for each in found)
    if best is None or best.score is None:
        return Search(tries)
    label = baseline_label(best.name, best.bought_anew)
    return Search(tries, StudyBaseline(label, best.timeframe, best.score))


def _export(
    engine: Engine,
    study: str,
    candidates: Sequence[Candidate],
    say: Say,
    extensions: Sequence[str] | None,
) -> list[Exported]:
    """Settle what is there, write the rest aside, replay it, and give it its name."""
    done = {c.rank: outcome for c in candidates if (outcome := _settle(c)) is not None}
    waiting = [c for c in candidates if c.rank not in done]
    _refuse_dropped(engine, study, waiting)
    search = _search(engine, study)
    grounds: Grounds = {}
    asides: list[Path] = []
    refusals: list[WalkforgeError] = []
    try:
        for place, candidate in enumerate(waiting, start=1):
            say(f"writing bundle {place} of {len(waiting)}: trial {candidate.trial}")
            asides.append(candidate.target.with_name(f"{ASIDE}{uuid.uuid4().hex}"))
            run, source = candidate.run, candidate.source
            write_bundle(asides[-1], run, candidate.score, source, grounds, extensions, search)
        replays = replay_afresh(asides)
        for place, (candidate, aside) in enumerate(zip(waiting, asides, strict=True), start=1):
            say(
                f"replaying bundle {place} of {len(waiting)} in a process of its own: trial {candidate.trial}"
            )
            replay = next(replays)
            if isinstance(replay, WalkforgeError) or not replay.bitwise:
                refusals.append(_refusal(candidate, aside, replay))
                continue
            done[candidate.rank] = REWRITTEN if candidate.target.exists() else REPLAYED
            _publish(aside, candidate.target)
    finally:
        for aside in asides:
            shutil.rmtree(aside, ignore_errors=True)
    exported = [
        Exported(c.rank, c.trial, c.score, c.target, done[c.rank]) for c in candidates if c.rank in done
    ]
    _record(engine, study, exported, {c.rank: c.run.run_uuid for c in candidates})
    if refusals:
        raise refusals[0]
    return exported


def _refuse_dropped(engine: Engine, study: str, waiting: Sequence[Candidate]) -> None:
    """Refuse, before anything is written, trials whose weights gave way to those of better ones."""
    with engine.connect() as conn:
        record = load_study(conn, study)
    kept = (record.spec if record else {}).get("keep_models", len(waiting))
    gone = [c for c in waiting if c.rank > kept and c.source.is_dir() and not any(c.source.rglob(WEIGHTS))]
    if gone:
        first, remedy = gone[0], f"export top_n={gone[0].rank - 1}"
        place = folder_words(first.source.parents[2])
        anew = f"`walkforge replay name={study} trial={first.trial}{in_words(engine.url)}{place}`"
        raise WalkforgeError(
            f"{study} keeps the models of its best trials alone (keep_models={kept}), and those of trial "
            f"{first.trial} (rank {first.rank}) are gone: {remedy}, or {anew} trains it anew "
            "and puts its models back"
        )


def _candidate(engine: Engine, row: LeaderboardRow, folder: Path) -> Candidate:
    with engine.connect() as conn:
        run = None if row.run_uuid is None else load_run(conn, row.run_uuid)
    if run is None:
        raise WalkforgeError(
            f"trial {row.trial_number} of {row.study_name} lost its run while it was looked at: export again"
        )
    name = f"{row.rank:02d}_trial_{row.trial_number:04d}"
    source = run_folder(folder, row.trial_number, run.run_uuid)
    return Candidate(row.rank, run, row.score, source, folder / EXPORTS / name)


def _settle(candidate: Candidate) -> str | None:
    """Return what is already true of a whole bundle of this very run, moved to its rank; None: write it."""
    if _is_whole(candidate.target, candidate.run.run_uuid):
        return UNCHANGED
    for other in sorted(candidate.target.parent.glob(f"[0-9]*_trial_{candidate.trial:04d}")):
        if other != candidate.target and _is_whole(other, candidate.run.run_uuid):
            _publish(other, candidate.target)
            return MOVED
    return None


def _is_whole(folder: Path, run_uuid: str) -> bool:
    try:
        return verify_bundle(folder).run_uuid == run_uuid
    except BadInputError:  # absent or damaged
        return False


def _refusal(candidate: Candidate, aside: Path, replay: Replay | WalkforgeError) -> WalkforgeError:
    head = f"trial {candidate.trial} of {candidate.run.study_name} is refused"
    if isinstance(replay, WalkforgeError):
        return type(replay)(f"{head}: {str(replay).replace(str(aside), 'its bundle')}")
    return WalkforgeError(f"{head}: stored {replay.stored!r}, replayed {replay.replayed!r}: {replay.verdict}")


def _publish(whole: Path, target: Path) -> None:
    """Give a whole bundle its name; what has the name gives way, whole as well."""
    old = target.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    if target.exists():
        target.rename(old)
    whole.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    sync(target.parent)


def _record(engine: Engine, study: str, exported: Sequence[Exported], runs: dict[int, str]) -> None:
    with engine.begin() as conn:
        records = load_exports(conn, study)
        paths = {record.bundle: Path(record.bundle) for record in records}  # a relative one may be elsewhere
        forget_exports(
            conn, [name for name, path in paths.items() if path.is_absolute() and not path.is_dir()]
        )
        known = {(os.path.abspath(record.bundle), record.manifest_sha256) for record in records}
        for one in exported:
            digest = hash_file(one.folder / MANIFEST)
            if (os.path.abspath(one.folder), digest) not in known:
                save_export(
                    conn,
                    ExportRecord(
                        str(one.folder), study, one.trial, runs[one.rank], one.rank, one.score, digest
                    ),
                )


def _sweep(exports: Path) -> None:
    """Remove what an export that was killed left aside."""
    for path in exports.glob(f"{ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


def why_none(engine: Engine, study: str) -> str:
    """Say which gates blocked how many trials."""
    with engine.connect() as conn:
        runs = complete_but_untold(conn, study)
    if not runs:
        return f"{study} has no finished trial yet, so there is nothing to export: run walkforge study first"
    counts = Counter(f"{run.state} {_gate(run)}" for run in runs)
    told = ", ".join(f"{number} {cause}" for cause, number in counts.most_common())
    if any(run.state == "COMPLETE" for run in runs):
        return (
            f"{study} has no parameter set to export: of each that has a score, half of the runs were PRUNED "
            f"or more; of {len(runs)} finished: {told}: search further, or with pruner=none under a new name"
        )
    return (
        f"{study} has no feasible trial, so there is nothing to export; of {len(runs)} finished: {told}: "
        "loosen the gate (score.min_trades, score.min_volatility) or search further under another name"
    )


def _gate(run: RunRecord) -> str:
    cause = run.failure_kind if run.state == "FAIL" else (run.reason or "no reason")
    return f"({'pruner' if cause and cause.startswith('pruner') else cause})"
