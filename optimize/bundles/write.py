"""Write a bundle: copy the files of a run, make them self-contained, describe and hash them."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from envs.plain import to_plain
from envs.types import Market
from optimize.agents.artifacts import MODEL, SPEC, read_spec
from optimize.agents.ensemble import ENSEMBLE
from optimize.agents.threads import limit_threads
from optimize.atomic import sync_tree
from optimize.bundles.card import card_of
from optimize.bundles.closes import CLOSES_FILE, plain_closes
from optimize.bundles.consistency import CARD_FILE, card_code
from optimize.bundles.gates import GateCheck
from optimize.bundles.inputs import NO_SEARCH, BundleInputs, SearchSummary, collect_inputs
from optimize.bundles.manifest import FORMAT, Manifest, write_manifest
from optimize.bundles.metrics import metrics_of
from optimize.bundles.observed import FEATURES_FILE, features_of
from optimize.bundles.picture import draw_equity
from optimize.bundles.replay import (
    CONFIG,
    PICTURE_FILE,
    POLICY_FILES,
    WINDOW_FILES,
    WindowedMarkets,
    evaluate_again,
    rebuild_checked,
    returns_hash,
)
from optimize.bundles.spans import METRICS_FILE, spans_of, write_spans
from optimize.bundles.titles import members_of, title_of
from optimize.data.market import load_bars
from optimize.data.quality.calendar_fit import resolve_calendar
from optimize.data.session_closes import closes_of
from optimize.data.sessions import sessions_end_flat
from optimize.errors import WalkforgeError
from optimize.evaluate.summary import WindowResult
from optimize.extensions import FOLDER as EXTENSIONS
from optimize.extensions import copies_in
from optimize.results.records import RunRecord
from optimize.walkforward.files import RETURNS, SCALER, read_returns, window_folder, write_json
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.refit import plan_refit, refit
from optimize.walkforward.run import conclude
from optimize.walkforward.spec import RunSpec, read_run
from optimize.walkforward.versions import CODE, commit, versions
from optimize.walkforward.versions import source as source_hashes


def write_bundle(
    folder: Path,
    run: RunRecord,
    score: float,
    source: Path,
    markets: WindowedMarkets,
    extensions: Sequence[str] | None = None,
    search: SearchSummary = NO_SEARCH,
    checks: tuple[GateCheck, ...] = (),
    refitted: bool = False,
) -> None:
    """Write the bundle of a run, whose files are in `source`, into a new folder, durably.

    `extensions` are the paths of its features' files, if not those of the launch; `search` is the search
    behind the trial, `checks` are the gates that it passed. `refitted` trains the deployable policy on every
    session before the holdout.
    """
    given = read_run(run.spec)
    if extensions is not None:
        given = dataclasses.replace(given, extensions=list(extensions))
    where = f"{title_of(run)} of {run.study_name}"
    market = rebuild_checked(given, run.data_fingerprint, where, markets).market
    spec = freeze(given, market)
    windowed = rebuild_checked(spec, run.data_fingerprint, where, markets)
    _check_files(spec, run, windowed, source)
    folder.mkdir()
    measured = _copy(spec, windowed, source, folder)
    if run.versions.get(CODE) != source_hashes(spec.feature.indicators, spec.extensions)[CODE]:
        measured = evaluate_again(spec, windowed, folder)  # other code may have computed other figures
    spec = _copy_extensions(spec, folder)
    # A run of an older version stored another kind of standard error.
    run = dataclasses.replace(
        run, standard_error=conclude(spec, windowed, measured, None).score.standard_error
    )
    plan = None
    if refitted:
        plan = plan_refit(windowed, spec.feature.history, measured, run.entropy)
        limit_threads(int(run.versions.get("threads", 1)))
        model = refit(spec if not spec.extensions else given, windowed, plan, run.versions)
        model.agent.save(folder)
        model.representation.save(folder / SCALER)
    _describe(folder, collect_inputs(spec, run, windowed, measured, search, plan, checks), score)
    sync_tree(folder)


def freeze(spec: RunSpec, market: Market) -> RunSpec:
    """Return the spec with its inferred values: absolute data path, symbols, timeframe and calendar."""
    path = None if spec.data.path is None else str(Path(spec.data.path).expanduser().absolute())
    data = dataclasses.replace(spec.data, path=path, symbols=list(market.symbols), timeframe=market.timeframe)
    session = spec.session
    if session.calendar == "auto" or session.flat_overnight is None:
        source = load_bars(spec.data)
        calendar = resolve_calendar(session, source)
        flat = sessions_end_flat(session, calendar, source.timeframe)
        session = dataclasses.replace(session, calendar=calendar, flat_overnight=flat)
    return dataclasses.replace(spec, data=data, session=session)


def _check_files(spec: RunSpec, run: RunRecord, windowed: WindowedMarket, source: Path) -> None:
    """Refuse a run whose models were not kept, or whose folder is not on this machine."""
    where = f"trial {run.trial_number} of {run.study_name} cannot be exported"
    if not source.is_dir():
        again = f"`walkforge replay name={run.study_name} trial={run.trial_number}`"
        raise WalkforgeError(
            f"{where}: its folder {source} is missing; name the output_dir of the study, or, where "
            f"`walkforge prune` freed its files, {again} puts them back"
        )
    places = [
        window_folder(source, window.index, repeat)
        for window in windowed.windows
        for repeat in range(spec.score.repeats)
    ]
    last = window_folder(source, windowed.windows[-1].index, 0)
    wanted = [place / name for place in places for name in WINDOW_FILES]
    wanted += [last / name for name in _policy_files(last)]
    for path in wanted:
        if not path.is_file():
            raise WalkforgeError(
                f"{where}: {path} is gone; this study keeps the weights of its best trials only "
                f"(keep_models={run.spec.get('keep_models')}): lower top_n, or `walkforge replay "
                f"name={run.study_name} trial={run.trial_number}` trains it anew and puts its models back"
            )


def _copy(spec: RunSpec, windowed: WindowedMarket, source: Path, folder: Path) -> list[list[WindowResult]]:
    """Copy the files of every window and the deployable policy; return the stored results."""
    for window in windowed.windows:
        for repeat in range(spec.score.repeats):
            place = window_folder(folder, window.index, repeat)
            place.mkdir(parents=True)
            for name in WINDOW_FILES:
                shutil.copyfile(window_folder(source, window.index, repeat) / name, place / name)
    last = window_folder(source, windowed.windows[-1].index, 0)
    for name in _policy_files(last):
        shutil.copyfile(last / name, folder / name)
    return [
        [
            read_returns(window_folder(folder, window.index, repeat) / RETURNS)[1]
            for window in windowed.windows
        ]
        for repeat in range(spec.score.repeats)
    ]


def _policy_files(place: Path) -> tuple[str, ...]:
    """Return the files of the deployable policy; an ensemble has no model.zip."""
    joined = (place / SPEC).is_file() and ENSEMBLE in read_spec(place)
    return tuple(name for name in POLICY_FILES if name != MODEL or not joined)


def _copy_extensions(spec: RunSpec, folder: Path) -> RunSpec:
    """Copy the files of custom features into the bundle; return the spec with the paths of the copies."""
    copies = copies_in(folder, spec.extensions)
    for original, copy in zip(spec.extensions, copies, strict=True):
        Path(copy).parent.mkdir(exist_ok=True)
        shutil.copyfile(original, copy)
    names = [f"{EXTENSIONS}/{Path(copy).name}" for copy in copies]
    return dataclasses.replace(spec, extensions=names)


def _describe(folder: Path, inputs: BundleInputs, score: float) -> None:
    """Write config, features, metrics, card, picture and, last, the manifest over all files."""
    spec, run, market = inputs.spec, inputs.run, inputs.windowed.market
    metrics = metrics_of(inputs)
    write_json(folder / CONFIG, to_plain(spec))
    write_json(folder / FEATURES_FILE, features_of(spec, market))
    write_json(folder / METRICS_FILE, metrics)
    spans = spans_of(inputs.windowed, None if inputs.refit is None else inputs.refit.trained_until)
    write_spans(folder, spans)
    write_json(folder / CLOSES_FILE, plain_closes(closes_of(market)))
    (folder / CARD_FILE).write_text(card_of(inputs, metrics), encoding="utf-8")
    draw_equity(folder / PICTURE_FILE, inputs)
    manifest = Manifest(
        format=FORMAT,
        study=run.study_name,
        trial=None if (members := members_of(run)) else run.trial_number,
        run_uuid=run.run_uuid,
        score=score,
        standard_error=run.standard_error,
        returns_sha256=returns_hash(inputs.measured),
        data_fingerprint=run.data_fingerprint,
        deployable=inputs.label,
        versions=versions() | source_hashes(spec.feature.indicators, spec.extensions) | card_code(),
        trained_with=dict(run.versions),
        commit=commit(),
        files={},
        trained_until=str(spans.trained_until),
        eligible_from=str(spans.eligible_from),
        members=members,
    )
    write_manifest(folder, manifest)
