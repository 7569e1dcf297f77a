"""Run or resume a study to its cap: check, preflight, supervise, conclude."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from rich.console import Console
from rich.markup import escape

from optimize.data.describe import Source, check_timeframes, source_line, source_of
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce, inspect
from optimize.database import check_reachable, open_engine
from optimize.errors import BadInputError, StudyStoppedError
from optimize.results import launches
from optimize.results.orphans import has_tables
from optimize.results.queries import all_studies
from optimize.results.records import SOURCE, EventRecord, load_study, log_event
from optimize.search.leaves import Choices
from optimize.search.samplers import check_sampler, grid_words
from optimize.search.space import SearchSpace, Value, apply, grid, parse_space
from optimize.study.claims.caps import is_timeframe_phase
from optimize.study.claims.control import refuse_stopped, resume_stopped
from optimize.study.claims.telling import counted, counts, tell_finished
from optimize.study.devices import devices_of
from optimize.study.equivalence import settle_code
from optimize.study.evidence import Evidence, record_evidence, verdict_lines
from optimize.study.files import make_folder, write_json
from optimize.study.grounds import GroundKey, fingerprint, lay_grounds, opening, store_baselines
from optimize.study.handle import Handle, cap_of, enroll, open_study
from optimize.study.pages.figured import draw_figures
from optimize.study.phases import (
    judge,
    model_study,
    phase_budget,
    require_evidence,
    standing_evidence,
    timeframe_study,
)
from optimize.study.place import mark_folder, refuse_second_folder
from optimize.study.preflight import announced, offered_features, preflight, preflight_on
from optimize.study.searchable import budget_conflicts, check_space
from optimize.study.spec import LOOKBACK, MODEL_PHASE, TIMEFRAME, StudySpec, to_plain
from optimize.study.trial import Ground
from optimize.study.workers.crew import supervise, workplace
from optimize.study.workers.notify import NotifySpec, connect, notifying
from optimize.study.workers.process import check_sockets
from optimize.study.workers.progress import Heard


def run_study(
    spec: StudySpec,
    console: Console,
    notify: NotifySpec | None = None,
    typed: Sequence[str] | None = None,
) -> str:
    """Run every phase to its cap and return the name of the last study.

    `typed` are the words of the command that goes on with it, without secrets.
    """
    services = connect(notify or NotifySpec())
    devices_of(spec)
    check_sockets()
    words = partial(console.print, markup=False, soft_wrap=True)
    with notifying(notify or NotifySpec(), services, spec.name, words) as notifier:
        _check(spec)
        with workplace(spec, words):
            return _run_phases(spec, console, notifier.hear, typed)


def _check(spec: StudySpec) -> None:
    """Refuse a space, a sampler or a database before anything is built or started."""
    space = parse_space(spec.space)
    check_space(spec, space)
    if spec.phase.kind == "two":  # before the first phase: the second may get all of its timeframes
        space = SearchSpace((*space.parameters, *parse_space(timeframe_study(spec).space).parameters))
    if spec.phase.kind != "timeframe_only":
        check_sampler(spec.sampler, space)
    check_reachable(spec.database)  # a server that is away is no news for after the markets are built
    _refuse_case(spec)
    conflicts = [] if spec.phase.kind == "timeframe_only" else budget_conflicts(spec, space)
    if conflicts and not _is_stored(
        spec
    ):  # one of an older version goes on: its trials store what they became
        raise BadInputError(
            f"{'; '.join(dict.fromkeys(conflicts))}: take such values out, raise agent.total_timesteps, or "
            f"leave the key out, as in {conflicts[0].partition(' ')[0]}=null"
        )


def _refuse_case(spec: StudySpec) -> None:
    """Refuse a new name that differs from a stored one by its case alone: some disks see one folder."""
    try:
        engine = open_engine(spec.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return
    try:
        with engine.connect() as conn:
            known = {name.partition(".")[0] for name in all_studies(engine)} if has_tables(conn) else set()
    finally:
        engine.dispose()
    near = sorted(name for name in known if name.lower() == spec.name.lower())
    if near and spec.name not in near:
        raise BadInputError(
            f"name={spec.name!r} differs from the study {near[0]!r} of this database by its case alone: "
            f"write name={near[0]} to go on with it, or choose another name"
        )


def _is_stored(spec: StudySpec) -> bool:
    """Return whether the database holds this study, or its model phase."""
    try:
        engine = open_engine(spec.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return False
    try:
        with engine.connect() as conn:
            names = (spec.name, f"{spec.name}.{MODEL_PHASE}")
            return has_tables(conn) and any(load_study(conn, name) is not None for name in names)
    finally:
        engine.dispose()


def _run_phases(spec: StudySpec, console: Console, heard: Heard, typed: Sequence[str] | None) -> str:
    report = inspect(spec.data, spec.session)
    source = source_of(report, spec.data) if report.coverage else None
    if source is not None:
        console.print(source_line(source), highlight=False, markup=False, soft_wrap=True)
    opened = spec if spec.phase.kind == "single" else timeframe_study(spec)
    enforce(
        report,
        lambda text: console.print(escape(text), soft_wrap=True),
        reads_volume=reads_volume(offered_features(spec).indicators),
        again=(opened.folder / "config.json").exists(),
    )
    if spec.phase.kind == "single":
        run_phase(spec, console, heard=heard, typed=typed, source=source)
        return spec.name
    if source is not None:
        check_timeframes(source, list(spec.phase.timeframe.timeframes))
    first = timeframe_study(spec)
    handle = run_phase(first, console, heard=heard, typed=typed, source=source)
    data = fingerprint(spec)
    evidence = standing_evidence(handle, data) or judge(handle, data)
    record_evidence(handle.engine, evidence)
    _say_evidence(evidence, console)
    draw_figures(handle, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    if spec.phase.kind == "timeframe_only":
        return first.name
    second = model_study(spec, evidence)
    evidence_of = evidence.data_fingerprint
    run_phase(second, console, evidence_of=evidence_of, heard=heard, typed=typed, source=source)
    return second.name


def run_phase(
    spec: StudySpec,
    console: Console,
    evidence_of: str | None = None,
    heard: Heard = lambda run, total: None,
    typed: Sequence[str] | None = None,
    source: Source | None = None,
) -> Handle:
    """Run one study to its cap; everything that can be refused is refused before the first trial.

    The source is kept as the study's event of kind `source`, with the line that describes it.

    A model phase rests on a timeframe phase of the same data, whose fingerprint is `evidence_of`.
    """
    space = parse_space(spec.space)
    probe = apply(spec, _first_choices(space))
    check_space(probe, space)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    for line in opening(spec, space):
        say(line)
    grounds = lay_grounds(spec, space)
    if (budget := phase_budget(spec, next(iter(grounds.values())))) is not None:
        say(f"{spec.name}: {budget}")
    make_folder(spec.folder)
    handle = open_study(spec)
    try:
        refuse_second_folder(handle)
    except BadInputError:
        with suppress(OSError):
            spec.folder.rmdir()  # it was made just now, and nothing is in it
        raise
    before = cap_of(handle)
    enroll(handle, next(iter(grounds.values())), say)
    settle_code(handle, say, launch=True)
    if source is not None:
        with handle.engine.begin() as conn:
            log_event(conn, EventRecord(spec.name, SOURCE, source_line(source), dataclasses.asdict(source)))
    if before != spec.n_trials:
        done = counted(handle)
        say(
            f"the cap of {spec.name} was {before} and is now {spec.n_trials}: {done} trials are done and kept"
        )
    with launches.announced(handle.engine, spec.name, launches.LAUNCH, "the launch", typed):
        _conduct(handle, grounds, probe, console, evidence_of, heard)
    return handle


def _conduct(
    handle: Handle,
    grounds: dict[GroundKey, Ground],
    probe: StudySpec,
    console: Console,
    evidence_of: str | None,
    heard: Heard,
) -> None:
    """Prepare an enrolled study, try the whole path out and have its workers run it to the cap."""
    spec, base = handle.spec, next(iter(grounds.values()))
    if (word := resume_stopped(handle, launched=evidence_of is None)) is not None:
        console.print(word, highlight=False, soft_wrap=True)
    if evidence_of is not None:
        require_evidence(handle, evidence_of)
    write_json(spec.folder / "config.json", to_plain(spec))
    write_json(spec.folder / "windows.json", {"windows": [dataclasses.asdict(w) for w in base.windows]})
    store_baselines(handle, grounds)
    tell_finished(handle)
    if counted(handle) >= spec.n_trials and not counts(handle.study)["RUNNING"]:
        console.print(f"{spec.name}: {_done(handle, spec.n_trials)}, nothing to run", highlight=False)
        return
    fitting = None if is_timeframe_phase(spec) else grid_words(spec.sampler, handle.space, spec.n_trials)
    if fitting is not None:
        console.print(f"{spec.name}: {fitting}", highlight=False, markup=False, soft_wrap=True)
    if spec.preflight:
        console.print(f"{spec.name}: the preflight goes through every stage of a trial once", highlight=False)
        with announced(handle):
            _try_out(probe, handle, console)
    mark_folder(handle)
    try:
        supervise(handle, console, len(base.windows), heard)
    finally:  # after a stop and Ctrl-C too
        draw_figures(handle, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    if counted(handle) < (cap := cap_of(handle)):
        refuse_stopped(handle)
        raise StudyStoppedError(
            f"study {spec.name!r} ended with {counted(handle)} of {cap} trials: launch it again; "
            f"the workers' words are in {spec.folder / 'logs'}"
        )
    if cap != spec.n_trials:
        console.print(f"{spec.name}: {_done(handle, cap)}, as another launch set it", highlight=False)


def _try_out(probe: StudySpec, handle: Handle, console: Console) -> None:
    """Run the preflight where a worker would run: here, on a GPU of this machine, or on a cluster."""
    devices = devices_of(handle.spec)
    if probe.worker.kind == "ray":
        from optimize.study.workers.cluster import preflight_on_cluster  # Ray is an extra

        preflight_on_cluster(probe, partial(console.print, markup=False, soft_wrap=True))
    elif devices:
        preflight_on(devices[0], probe, handle.cache_dir)
    else:
        preflight(probe, handle.cache_dir, console.print)


def _first_choices(space: SearchSpace) -> dict[str, Value]:
    """Return a timeframe and lookback of the space: phases state these, so no configured default can."""
    inside = [
        p for p in space.parameters if p.path in (TIMEFRAME, LOOKBACK) and isinstance(p.domain, Choices)
    ]
    return grid(SearchSpace(tuple(inside)))[0]


def _done(handle: Handle, cap: int) -> str:
    """Say how many trials are done, and that a lower cap takes none of them back."""
    done = counted(handle)
    return (
        f"{done} of {cap} trials done"
        if done <= cap
        else f"{done} trials done and kept, the cap is now {cap}"
    )


def _say_evidence(evidence: Evidence, console: Console) -> None:
    verdict, *rest = verdict_lines(evidence)
    console.print(verdict, highlight=False, soft_wrap=True)
    for each in evidence.combinations:
        mean = "no score" if each.mean is None else f"mean Sharpe {each.mean:+.2f}"
        error = "" if each.standard_error is None else f" +- {each.standard_error:.2f}"
        p_value = "" if each.p_value is None else f", p {each.p_value:.3f}"
        told = "kept" if each.kept else each.reason or "dropped"
        trials = f"{each.scores} of {each.trials} trials"
        line = f"  {each.timeframe:>4} x {each.lookback:<3} {mean}{error} ({trials}){p_value}: {told}"
        console.print(line, highlight=False, soft_wrap=True)
    for line in rest:
        console.print(line, highlight=False, soft_wrap=True)
