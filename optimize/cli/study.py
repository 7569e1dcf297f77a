"""`walkforge study`."""

from collections.abc import Sequence

from rich.console import Console

from optimize.cli.arguments import read_command
from optimize.cli.composition import compose_jobs
from optimize.cli.tables import say
from optimize.cli.typed import searched_words, typed_keys
from optimize.compose import RunStudyConfig, to_spec
from optimize.database import open_engine
from optimize.database.address import in_words
from optimize.extensions import refuse_unnamed
from optimize.results.queries import leaderboard, studies_of
from optimize.search.space import parse_space
from optimize.secrets import storable
from optimize.study.claims.control import StoppedByActionError, ask
from optimize.study.export.best import why_none
from optimize.study.files import folder_words
from optimize.study.resume import merge_words, resume, stored_study
from optimize.study.runner import run_study
from optimize.study.spec import StudySpec
from optimize.study.workers.signals import lasting_output


def study(config: RunStudyConfig, typed: Sequence[str] | None = None) -> int:
    """Run or resume a study (one or two phases) to its cap, and say what to do next.

    `typed` are the words of the command, which the study keeps without what is secret in them.
    """
    if config.action != "run":
        act(config)
        return 0
    spec = to_spec(config)
    if typed is not None and (stored := stored_study(spec.database, spec.name)) is not None:
        keys = typed_keys(typed, stored.words)
        typed = merge_words(stored.words, typed)
        if stored.first_phase_only:  # what the second phase searches is in the words of the launch alone
            again = compose_again(typed)
            refuse_unnamed(again.extensions, f"study {spec.name!r}")
            spec = to_spec(again)
        spec = resume(stored, spec, keys)
        refuse_unnamed(spec.extensions, f"study {spec.name!r}")
    if typed is not None:
        for line in searched_words(typed, {each.path for each in parse_space(spec.space).parameters}):
            say(line)
    with lasting_output():
        return _run(config, spec, typed)


def _run(config: RunStudyConfig, spec: StudySpec, typed: Sequence[str] | None) -> int:
    console = Console()
    try:
        name = run_study(spec, console, config.notify, None if typed is None else storable(typed))
    except KeyboardInterrupt:
        console.print(f"study {spec.name} is interrupted: nothing is lost, the same command resumes it")
        return 1
    except StoppedByActionError as stopped:
        say(str(stopped))
        return stopped.exit_code
    if (nothing := _nothing_scored(spec, name)) is not None:
        say(f"\nstudy {name} is at its cap; {nothing}")
        return 0
    where = f"name={spec.name}{in_words(spec.database.url)}{folder_words(spec.output_dir)}"
    console.print(
        f"\nstudy {name} is at its cap; next:\n"
        f"  walkforge leaderboard {where}\n"
        f"  walkforge export {where} top_n={min(3, spec.keep_models)}\n"
        f"  walkforge dashboard {where}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _nothing_scored(spec: StudySpec, name: str) -> str | None:
    """Return why a finished study has nothing to show or export, None where it has."""
    place = spec.database
    engine = open_engine(place.url, read_only=True, busy_timeout_s=place.busy_timeout_s)
    try:
        return None if leaderboard(engine, name, 1) else why_none(engine, name)
    finally:
        engine.dispose()


def compose_again(words: Sequence[str]) -> RunStudyConfig:
    """Return the configuration of the words of an earlier launch and of this one."""
    command = read_command("study", words)
    (job,) = compose_jobs("study", command.words)
    again: RunStudyConfig = job.config
    return again


def act(config: RunStudyConfig) -> None:
    """Pause, resume or stop a study that runs elsewhere, and say what that means."""
    place = config.database
    looking = open_engine(place.url, read_only=True, busy_timeout_s=place.busy_timeout_s)
    try:
        studies_of(looking, config.name)  # a name that is not there must not make a database
    finally:
        looking.dispose()
    engine = open_engine(place.url, busy_timeout_s=place.busy_timeout_s)
    try:
        for line in ask(engine, config.name, config.action):
            say(line)
    finally:
        engine.dispose()
