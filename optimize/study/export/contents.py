"""What goes into a bundle: copied from the run, made self-contained, described, hashed."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from envs.types import Market
from optimize.data.dataset import load_bars
from optimize.data.durable import sync
from optimize.data.quality.calendar_verdict import resolve_calendar
from optimize.data.sessions import ends_flat
from optimize.errors import WalkforgeError
from optimize.extensions import FOLDER as EXTENSIONS
from optimize.extensions import copies_in
from optimize.results.records import RunRecord
from optimize.study.export.bundle import (
    CONFIG,
    DEPLOYED,
    PICTURE,
    PROOF,
    Grounds,
    evaluate_again,
    lay_again,
    returns_hash,
)
from optimize.study.export.card import (
    ALONE,
    LABEL,
    Evidence,
    Search,
    card_of,
    draw_equity,
    gather,
    metrics_of,
)
from optimize.study.export.described import CARD, FEATURES, METRICS, features_of
from optimize.study.export.manifest import FORMAT, Manifest, write_manifest
from optimize.study.export.spans import spans_of, write_spans
from optimize.study.files import RETURNS, read_returns, window_folder, write_json
from optimize.study.spec import StudySpec, from_plain, to_plain
from optimize.study.trial import Ground, Measured, conclude
from optimize.study.versions import CODE, commit, versions
from optimize.study.versions import source as source_hashes


def write_bundle(
    folder: Path,
    run: RunRecord,
    score: float,
    source: Path,
    grounds: Grounds,
    extensions: Sequence[str] | None = None,
    search: Search = ALONE,
) -> None:
    """Write the whole bundle of a run, whose files are in source, into a new folder; bring it to disk.

    `extensions` are where the files of its own features lie, if not where its launch had them; `search` is
    what it was chosen from.
    """
    given = from_plain(StudySpec, dict(run.spec))
    if extensions is not None:
        given = dataclasses.replace(given, extensions=list(extensions))
    where = f"trial {run.trial_number} of {run.study_name}"
    market = lay_again(given, run.data_fingerprint, where, grounds).market
    spec = freeze(given, market)
    ground = lay_again(spec, run.data_fingerprint, where, grounds)
    _check_files(spec, run, ground, source)
    folder.mkdir()
    measured = _copy(spec, ground, source, folder)
    if run.versions.get(CODE) != source_hashes(spec.feature.indicators)[CODE]:
        measured = evaluate_again(spec, ground, folder)  # other code may have measured its figures otherwise
    spec = _copy_extensions(spec, folder)
    # A run of an older version stored the error of another figure.
    run = dataclasses.replace(run, standard_error=conclude(spec, ground, measured, None).score.standard_error)
    _describe(folder, gather(spec, run, ground, measured, search), score)
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def freeze(spec: StudySpec, market: Market) -> StudySpec:
    """Return the spec with nothing left to infer: absolute data path, symbols, timeframe and calendar."""
    path = None if spec.data.path is None else str(Path(spec.data.path).expanduser().absolute())
    data = dataclasses.replace(spec.data, path=path, symbols=list(market.symbols), timeframe=market.timeframe)
    session = spec.session
    if session.calendar == "auto" or session.flat_overnight is None:
        source = load_bars(spec.data)
        calendar = resolve_calendar(session, source)
        flat = ends_flat(session, calendar, source.timeframe)
        session = dataclasses.replace(session, calendar=calendar, flat_overnight=flat)
    return dataclasses.replace(spec, data=data, session=session)


def _check_files(spec: StudySpec, run: RunRecord, ground: Ground, source: Path) -> None:
    """Refuse a run whose models were not kept, or whose folder is elsewhere."""
    where = f"trial {run.trial_number} of {run.study_name} cannot be exported"
    if not source.is_dir():
        raise WalkforgeError(f"{where}: its folder {source} is missing; name the output_dir of the study")
    places = [
        window_folder(source, window.index, repeat)
        for window in ground.windows
        for repeat in range(spec.score.repeats)
    ]
    last = window_folder(source, ground.windows[-1].index, 0)
    wanted = [place / name for place in places for name in PROOF] + [last / name for name in DEPLOYED]
    for path in wanted:
        if not path.is_file():
            raise WalkforgeError(
                f"{where}: {path} is gone; a study keeps the weights of its best "
                f"keep_models={spec.keep_models} trials only: lower top_n, or `walkforge replay "
                f"name={run.study_name} trial={run.trial_number}` trains it anew and puts its models back"
            )


def _copy(spec: StudySpec, ground: Ground, source: Path, folder: Path) -> list[list[Measured]]:
    """Copy the proof of every window and the deployable policy; return what was measured."""
    for window in ground.windows:
        for repeat in range(spec.score.repeats):
            place = window_folder(folder, window.index, repeat)
            place.mkdir(parents=True)
            for name in PROOF:
                shutil.copyfile(window_folder(source, window.index, repeat) / name, place / name)
    last = window_folder(source, ground.windows[-1].index, 0)
    for name in DEPLOYED:
        shutil.copyfile(last / name, folder / name)
    return [
        [read_returns(window_folder(folder, window.index, repeat) / RETURNS)[1] for window in ground.windows]
        for repeat in range(spec.score.repeats)
    ]


def _copy_extensions(spec: StudySpec, folder: Path) -> StudySpec:
    """Copy the files of the user's own features into the bundle; return the spec that names the copies."""
    copies = copies_in(folder, spec.extensions)
    for original, copy in zip(spec.extensions, copies, strict=True):
        Path(copy).parent.mkdir(exist_ok=True)
        shutil.copyfile(original, copy)
    names = [f"{EXTENSIONS}/{Path(copy).name}" for copy in copies]
    return dataclasses.replace(spec, extensions=names)


def _describe(folder: Path, evidence: Evidence, score: float) -> None:
    """Write config, features, metrics, card, picture and, over them all, the manifest."""
    spec, run, market = evidence.spec, evidence.run, evidence.ground.market
    metrics = metrics_of(evidence)
    write_json(folder / CONFIG, to_plain(spec))
    write_json(folder / FEATURES, features_of(spec, market))
    write_json(folder / METRICS, metrics)
    write_spans(folder, spans_of(evidence.ground))
    (folder / CARD).write_text(card_of(evidence, metrics), encoding="utf-8")
    draw_equity(folder / PICTURE, evidence)
    manifest = Manifest(
        format=FORMAT,
        study=run.study_name,
        trial=run.trial_number,
        run_uuid=run.run_uuid,
        score=score,
        standard_error=run.standard_error,
        returns_sha256=returns_hash(evidence.measured),
        data_fingerprint=run.data_fingerprint,
        deployable=LABEL,
        versions=versions() | source_hashes(spec.feature.indicators),
        trained_with=dict(run.versions),
        commit=commit(),
        files={},
    )
    write_manifest(folder, manifest)
