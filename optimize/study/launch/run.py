"""Run or resume a study to its cap: check, preflight, supervise, conclude."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial

from rich.console import Console
from rich.markup import escape

from envs.plain import to_plain
from optimize.data.describe import SourceSummary, check_timeframes, source_line, summarise_source
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.data.sources.read_once import reading_once, release_rows
from optimize.errors import BadInputError, StudyStoppedError
from optimize.report.format import format_score, number
from optimize.report.timeframe_phase import verdict_lines
from optimize.results import launches
from optimize.results.event_log import log_event
from optimize.results.events import LaunchEvent, SourceDescribed
from optimize.results.finalists import Finalist
from optimize.results.queries import best_score
from optimize.results.states import COUNTED, RunState
from optimize.results.timeframe_screen import TimeframeScreen, stored_screen
from optimize.results.timeframe_verdict import Verdict, record_evidence
from optimize.search.rules import check_space
from optimize.search.samplers import grid_words
from optimize.search.space import parse_space
from optimize.study.context import StudyContext, cap_of, enroll, open_study
from optimize.study.control import refuse_stopped, resume_stopped
from optimize.study.dashboard.attach_missing import attach_figures
from optimize.study.finalists.run import FinalistSettings, run_finalists
from optimize.study.holdout import admit, with_kept_holdout
from optimize.study.launch.code_equivalence import check_code
from optimize.study.launch.markets import MarketKey, build_markets, fingerprint, store_baselines, work_ahead
from optimize.study.launch.power import planned_power
from optimize.study.launch.preflight import offered_features, preflight, preflight_logged, preflight_on
from optimize.study.launch.refusals import check_study, probe_spec, refuse_coarser_bars
from optimize.study.launch.starting_points import queue_starting_points
from optimize.study.launch.supervise import cluster_connection, supervise
from optimize.study.nested.run import base_market, run_nested
from optimize.study.phases.run import (
    compare_combinations,
    model_study,
    phase_budget,
    require_evidence,
    timeframe_study,
    valid_evidence,
)
from optimize.study.phases.screen import screen_lines, screened
from optimize.study.shared_folder import mark_folder, refuse_second_folder
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import is_timeframe_phase
from optimize.study.trials.tell import counted, counts, tell_finished
from optimize.study.workers.gpus import devices_of
from optimize.study.workers.notify import connect_services, notifying
from optimize.study.workers.process import check_sockets
from optimize.study.workers.progress import OnRunEnd
from optimize.walkforward.files import make_folder, write_json
from optimize.walkforward.markets import WindowedMarket


def run_study(
    spec: StudySpec,
    console: Console | None = None,
    typed: Sequence[str] | None = None,
) -> str:
    """Run or resume every phase of a study to its cap; return the name under which its results are stored.

    console: receives the progress lines; None prints them.
    typed: the words of the command that resumes the study, without secrets.
    """
    console = console or Console()
    services = connect_services(spec.notify)
    spec = dataclasses.replace(spec, notify=dataclasses.replace(spec.notify, urls=[]))  # they hold tokens
    devices_of(spec)
    check_sockets()
    words = partial(console.print, markup=False, soft_wrap=True)
    with notifying(spec.notify, services, spec.name, words) as notifier:
        check_study(spec)
        with cluster_connection(spec, words), reading_once():
            name = _run_phases(spec, console, notifier.run_ended, typed)
            if spec.nested:
                _run_nested(spec, name, console)
            return name


def _run_nested(spec: StudySpec, name: str, console: Console) -> None:
    """Run the nested walk-forward of a study that is at its cap."""
    probe = probe_spec(spec, parse_space(spec.space))
    windowed = base_market(probe)
    if (held := with_kept_holdout(probe, windowed)) != probe:  # its windows end before the kept holdout
        windowed = base_market(held)

    echo = partial(console.print, highlight=False, markup=False, soft_wrap=True)

    def launch(inner: StudySpec) -> str:
        return _run_phases(inner, console, lambda run, total: None, None)

    def rank(inner: str) -> list[Finalist]:
        settings = FinalistSettings(
            name=inner,
            top_n=spec.nested_finalists,
            seeds=spec.nested_seeds,
            output_dir=spec.output_dir,
            database=spec.database,
            worker=spec.worker,
        )
        results = run_finalists(settings, echo)
        if left := sum(run.state not in COUNTED for run in results.runs):
            raise StudyStoppedError(
                f"{left} runs of the finalists of {inner} have not ended: `walkforge finalists name={inner} "
                f"top_n={spec.nested_finalists} seeds={spec.nested_seeds}` runs them, then launch it again"
            )
        return results.finalists

    run_nested(spec, name, windowed, launch, rank, echo)


def _run_phases(spec: StudySpec, console: Console, on_run_end: OnRunEnd, typed: Sequence[str] | None) -> str:
    report = inspect_bars(spec.data, spec.session)
    source = summarise_source(report, spec.data) if report.coverage else None
    if source is not None:
        refuse_coarser_bars(spec, source)
        console.print(source_line(source), highlight=False, markup=False, soft_wrap=True)
    opened = spec if spec.phase.kind == "single" else timeframe_study(spec)
    enforce_report(
        report,
        lambda text: console.print(escape(text), soft_wrap=True),
        reads_volume=reads_volume(offered_features(spec).indicators),
        again=(opened.folder / "config.json").exists(),
    )
    if spec.phase.kind == "single":
        run_phase(spec, console, on_run_end=on_run_end, typed=typed, source=source).close()
        return spec.name
    if source is not None:
        check_timeframes(source, list(spec.phase.timeframe.timeframes))
    echo = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    spec, screen = screened(spec, echo, keep=not launches.is_debug(typed))
    first = timeframe_study(spec)
    model_trials = spec.n_trials if spec.phase.kind == "two" else 0
    with closing(
        run_phase(
            first,
            console,
            on_run_end=on_run_end,
            typed=typed,
            source=source,
            model_trials=model_trials,
            screen=screen,
        )
    ) as context:
        data = fingerprint(spec)
        evidence = valid_evidence(context, data) or compare_combinations(context, data)
        record_evidence(context.engine, evidence, verdict_lines(evidence)[0])
        _print_verdict(evidence, console)
        attach_figures(context, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    if spec.phase.kind == "timeframe_only":
        return first.name
    second = model_study(spec, evidence)
    evidence_of = evidence.data_fingerprint
    run_phase(
        second, console, evidence_of=evidence_of, on_run_end=on_run_end, typed=typed, source=source
    ).close()
    return second.name


def run_phase(
    spec: StudySpec,
    console: Console,
    evidence_of: str | None = None,
    on_run_end: OnRunEnd = lambda run, total: None,
    typed: Sequence[str] | None = None,
    source: SourceSummary | None = None,
    model_trials: int = 0,
    screen: TimeframeScreen | None = None,
) -> StudyContext:
    """Run one study to its cap and return it open; all that can be refused is before the first trial.

    The source is stored as an event of kind `source`, with the line that describes it.

    A model phase follows a timeframe phase on the same data, whose fingerprint is `evidence_of`; its cap is
    `model_trials` of the timeframe phase, for the power line. Its `screen` is stored before the first trial.
    """
    space = parse_space(spec.space)
    probe = probe_spec(spec, space)
    check_space(probe, space)
    echo = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    for line in work_ahead(spec, space):
        echo(line)
    markets = build_markets(spec, space)
    keep, asked, planned_on = not launches.is_debug(typed), spec, next(iter(markets.values()))
    spec = with_kept_holdout(asked, planned_on, echo, keep=keep)
    if spec != asked:
        probe, markets = probe_spec(spec, space), build_markets(spec, space)
    base = next(iter(markets.values()))
    if (budget := phase_budget(spec, base)) is not None:
        echo(f"{spec.name}: {budget}")
    make_folder(spec.folder)
    context = open_study(spec)
    with ExitStack() as failed:
        failed.callback(context.close)
        store = partial(_enter, context, base, source, echo)
        if admit(asked, planned_on, spec, base, context.engine, store, echo, keep=keep):
            _keep_screen(context, screen)
            with launches.log_process(context.engine, spec.name, LaunchEvent, "the launch", typed):
                _run_to_cap(context, markets, probe, console, evidence_of, on_run_end, model_trials)
            failed.pop_all()
            return context
    echo(f"{spec.name}: another study cut a holdout of these bars meanwhile, so its windows are planned anew")
    return run_phase(asked, console, evidence_of, on_run_end, typed, source, model_trials, screen)


def _keep_screen(context: StudyContext, screen: TimeframeScreen | None) -> None:
    """Store the screen of a timeframe phase once."""
    if screen is None:
        return
    with context.engine.begin() as conn:
        if stored_screen(conn, context.spec.name) is None:
            log_event(conn, context.spec.name, screen_lines(screen)[0], screen)


def _enter(
    context: StudyContext, windowed: WindowedMarket, source: SourceSummary | None, echo: Callable[[str], None]
) -> None:
    """Store the study of a launch, or refuse it where the stored one is another."""
    spec = context.spec
    try:
        refuse_second_folder(context)
    except BadInputError:
        with suppress(OSError):
            spec.folder.rmdir()  # the launch created it, and it is empty
        raise
    before = cap_of(context)
    enroll(context, windowed, echo)
    check_code(context, echo, launch=True)
    queue_starting_points(context, source, echo)
    if source is not None:
        with context.engine.begin() as conn:
            log_event(conn, spec.name, source_line(source), SourceDescribed(**dataclasses.asdict(source)))
    if before != spec.n_trials:
        done = counted(context)
        echo(
            f"the cap of {spec.name} was {before} and is now {spec.n_trials}: {done} trials are done and kept"
        )


def _run_to_cap(
    context: StudyContext,
    markets: dict[MarketKey, WindowedMarket],
    probe: StudySpec,
    console: Console,
    evidence_of: str | None,
    on_run_end: OnRunEnd,
    model_trials: int,
) -> None:
    """Prepare a stored study, run the preflight, then run its workers to the cap."""
    spec, base = context.spec, next(iter(markets.values()))
    if (word := resume_stopped(context, launched=evidence_of is None)) is not None:
        console.print(word, highlight=False, soft_wrap=True)
    if evidence_of is not None:
        require_evidence(context, evidence_of)
    write_json(spec.folder / "config.json", to_plain(spec))
    write_json(spec.folder / "windows.json", {"windows": [dataclasses.asdict(w) for w in base.windows]})
    store_baselines(context, markets)
    tell_finished(context)
    if counted(context) >= spec.n_trials and not counts(context.study)[RunState.RUNNING]:
        console.print(f"{spec.name}: {_done(context, spec.n_trials)}, nothing to run", highlight=False)
        return
    if counted(context):
        with context.engine.connect() as conn:
            best = best_score(conn, spec.name)
        so_far = "" if best is None else f", best score so far {format_score(best)}"
        console.print(f"{spec.name}: {_done(context, spec.n_trials)}{so_far}", highlight=False)
    fitting = None if is_timeframe_phase(spec) else grid_words(spec.sampler, context.space, spec.n_trials)
    if fitting is not None:
        console.print(f"{spec.name}: {fitting}", highlight=False, markup=False, soft_wrap=True)
    power = planned_power(context, base, model_trials)
    console.print(f"{spec.name}: {power}", highlight=False, soft_wrap=True)
    if spec.preflight:
        console.print(f"{spec.name}: the preflight goes through every stage of a trial once", highlight=False)
        with preflight_logged(context):
            _run_preflight(probe, context, console)
    mark_folder(context)
    release_rows()  # the workers map the stored markets
    try:
        supervise(context, console, len(base.windows), on_run_end)
    finally:  # after a stop and Ctrl-C too
        attach_figures(context, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    if counted(context) < (cap := cap_of(context)):
        refuse_stopped(context)
        raise StudyStoppedError(
            f"study {spec.name!r} ended with {counted(context)} of {cap} trials: launch it again; "
            f"the workers' words are in {spec.folder / 'logs'}"
        )
    if cap != spec.n_trials:
        console.print(f"{spec.name}: {_done(context, cap)}, as another launch set it", highlight=False)


def _run_preflight(probe: StudySpec, context: StudyContext, console: Console) -> None:
    """Run the preflight on the kind of device that workers use: the CPU or a GPU here, or a cluster."""
    devices = devices_of(context.spec)
    if probe.worker.kind == "ray":
        from optimize.study.launch.cluster import preflight_on_cluster  # Ray is an extra

        preflight_on_cluster(probe, partial(console.print, markup=False, soft_wrap=True))
    elif devices:
        preflight_on(devices[0], probe, context.cache_dir)
    else:
        preflight(probe, context.cache_dir, console.print)


def _done(context: StudyContext, cap: int) -> str:
    """Return how many trials are done, also when the cap was lowered below that number."""
    done = counted(context)
    return (
        f"{done} of {cap} trials done"
        if done <= cap
        else f"{done} trials done and kept, the cap is now {cap}"
    )


def _print_verdict(evidence: Verdict, console: Console) -> None:
    verdict, *rest = verdict_lines(evidence)
    console.print(verdict, highlight=False, soft_wrap=True)
    for each in evidence.combinations:
        mean = "no score" if each.mean is None else f"mean Sharpe {format_score(each.mean)}"
        error = "" if each.standard_error is None else f" +- {number()(each.standard_error)}"
        p_value = "" if each.p_value is None else f", p {number(3)(each.p_value)}"
        told = "kept" if each.kept else each.reason or "dropped"
        trials = f"{each.scores} of {each.trials} trials"
        line = f"  {each.timeframe:>4} x {each.lookback:<3} {mean}{error} ({trials}){p_value}: {told}"
        console.print(line, highlight=False, soft_wrap=True)
    for line in rest:
        console.print(line, highlight=False, soft_wrap=True)
