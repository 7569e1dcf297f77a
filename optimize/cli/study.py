"""`walkforge study`."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from optimize.cli.arguments import read_command
from optimize.cli.composition import compose_jobs
from optimize.cli.typed_keys import BY_PHASE, phase_words, searched_words, typed_keys
from optimize.data.sources.read_once import reading_once
from optimize.database import open_engine
from optimize.database.address import in_words
from optimize.errors import BadInputError
from optimize.extensions import load_stored
from optimize.report.commands import folder_words
from optimize.report.probe import probe_line
from optimize.report.tables import say
from optimize.report.unscored import why_unscored
from optimize.results.queries import best_models, studies_of
from optimize.schemas.studies import RunStudyConfig, to_spec
from optimize.search.space import parse_space
from optimize.secrets import storable
from optimize.study.control import StoppedByActionError, request_action
from optimize.study.launch.run import run_study
from optimize.study.resume import merge_words, resumed_spec, stored_study
from optimize.study.spec import StudySpec
from optimize.study.workers.signals import lasting_output


@reading_once()
def study(config: RunStudyConfig, typed: Sequence[str] | None = None) -> int:
    """Run or resume a study (one or two phases) to its cap, and print the next command.

    `typed` are the words of the command, which the study keeps without their secrets.
    """
    if config.action != "run":
        control_study(config)
        return 0
    try:
        spec = to_spec(config)
    except BadInputError as error:
        spec = _with_earlier_words(config, typed, error)
    if typed is not None and (stored := stored_study(spec.database, spec.name)) is not None:
        keys = typed_keys(typed, stored.words)
        typed = merge_words(stored.words, typed)
        if stored.first_phase_only:  # only the words of that launch hold the space of the second phase
            again = compose_again(typed)
            load_stored(again.extensions, f"study {spec.name!r}")
            spec = to_spec(again)
        spec = resumed_spec(stored, spec, keys)
        load_stored(spec.extensions, f"study {spec.name!r}")
    if typed is not None:
        searched = {each.path for each in parse_space(spec.space).parameters}
        if spec.phase.kind != "single":
            for line in phase_words(typed, spec.phase.timeframe):
                say(line)
            searched -= BY_PHASE.keys()
        for line in searched_words(typed, searched):
            say(line)
    with lasting_output():
        return _run(spec, typed)


def _with_earlier_words(
    config: RunStudyConfig, typed: Sequence[str] | None, error: BadInputError
) -> StudySpec:
    """Return the spec composed of the words of an earlier launch and of this one, else raise the error.

    A key of an agent is wrong for the default agent, yet may be right for that of the stored study.
    """
    stored = None if typed is None else stored_study(config.database, config.name)
    if typed is None or stored is None or not stored.words:
        raise error
    again = compose_again(merge_words(stored.words, typed))
    load_stored(again.extensions, f"study {config.name!r}")
    return to_spec(again)


def _run(spec: StudySpec, typed: Sequence[str] | None) -> int:
    console = Console()
    try:
        name = run_study(spec, console, None if typed is None else storable(typed))
    except KeyboardInterrupt:
        console.print(f"study {spec.name} is interrupted: nothing is lost, the same command resumes it")
        return 1
    except StoppedByActionError as stopped:
        say(str(stopped))
        return stopped.exit_code
    nothing, line = _outcome(spec, name)
    if nothing is not None:
        say(f"\nstudy {name} is at its cap; {nothing}")
        return 0
    if line is not None:
        say(line)
    where = f"name={spec.name}{in_words(spec.database.url)}{folder_words(spec.output_dir)}"
    console.print(
        f"\nstudy {name} is at its cap; next:\n"
        f"  walkforge leaderboard {where}  # with the verdict on luck\n"
        f"  walkforge finalists {where}  # the best again, on fresh seeds\n"
        f"  walkforge export {where} top_n={min(3, spec.keep_models)}  # of those that pass its gates\n"
        f"  walkforge dashboard {where}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _outcome(spec: StudySpec, name: str) -> tuple[str | None, str | None]:
    """Return why a finished study has nothing to show, and the line on a probe that its best trial equals."""
    place = spec.database
    engine = open_engine(place.url, read_only=True, busy_timeout_s=place.busy_timeout_s)
    try:
        best = next(iter(best_models(engine, name, 1)), None)
        if best is None:
            return why_unscored(engine, name), None
    finally:
        engine.dispose()
    return None, probe_line(f"trial {best.trial_number}", best.score, asdict(best))


def compose_again(words: Sequence[str]) -> RunStudyConfig:
    """Return the configuration of the words of an earlier launch and of this one."""
    command = read_command("study", words)
    (job,) = compose_jobs("study", command.words)
    again: RunStudyConfig = job.config
    return again


def control_study(config: RunStudyConfig) -> None:
    """Pause, resume or stop a study that runs elsewhere, and print the effect."""
    place = config.database
    looking = open_engine(place.url, read_only=True, busy_timeout_s=place.busy_timeout_s)
    try:
        studies_of(looking, config.name)  # a name that is not there must not make a database
    finally:
        looking.dispose()
    engine = open_engine(place.url, busy_timeout_s=place.busy_timeout_s)
    try:
        for line in request_action(engine, config.name, config.action):
            say(line)
    finally:
        engine.dispose()
