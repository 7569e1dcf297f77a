"""Strip the verb, let Hydra compose, run the verb's function, turn errors into one line and an exit code."""

import difflib
import importlib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from optimize.errors import BadInputError, WalkforgeError

CONFIG_PATH = "pkg://optimize.conf"
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 1
PRINTING = {"-c", "--cfg", "-i", "--info", "-h", "--help"}  # flags that let Hydra print the configuration
PASSWORD = re.compile(r"(\w+://[^\s/:@]*):\S+@")  # of a database URL
OPTION = re.compile(r"([?&](?:ssl)?password=)[^&\s]+")  # of one too
# Of a service that is notified: any URL may be one, but a database's and those of the configuration's places.
TOKEN = re.compile(
    r"(?<![\w+.-])(?!(?:sqlite|postgres|postgresql|postgresql\+psycopg|pkg|file|structured)://)"
    r"(\w[\w+.-]*://)\S+"
)
MULTIRUN = {"-m", "--multirun"}


@dataclass(frozen=True)
class Verb:
    """A verb: where its function is (imported when called) and what it does."""

    function: str
    help: str
    launches: bool = False  # it keeps its words, for whoever goes on with what it began

    def load(self) -> Callable[..., int | None]:
        """Import and return the verb's function."""
        module, name = self.function.split(":")
        function: Callable[..., int | None] = getattr(importlib.import_module(module), name)
        return function


@dataclass(frozen=True)
class Job:
    """What a verb is called with: one of several with -m."""

    config: Any
    typed: list[str]  # its overrides, and the flags where there is one job


VERBS: dict[str, Verb] = {
    "data": Verb("optimize.cli.data:data", "fetch, resample, check and describe a data set"),
    "walk-forward": Verb("optimize.cli.walk_forward:walk_forward", "evaluate one configuration, no search"),
    "study": Verb("optimize.cli.study:study", "run or resume a study to its cap", launches=True),
    "worker": Verb("optimize.cli.worker:worker", "join a study from any machine that reaches its database"),
    "status": Verb("optimize.cli.status:status", "show progress, workers and failures of a study"),
    "leaderboard": Verb("optimize.cli.leaderboard:leaderboard", "show the best trials of a study"),
    "query": Verb("optimize.cli.query:query", "run a named SQL file; without sql= list them"),
    "export": Verb("optimize.cli.export:export", "export the top N as bundles that replay to their score"),
    "replay": Verb("optimize.cli.replay:replay", "prove that a bundle or trial reproduces its score"),
    "dashboard": Verb("optimize.cli.dashboard:dashboard", "open optuna-dashboard on a study"),
    "doctor": Verb("optimize.cli.doctor:doctor", "examine machine, database and studies; repair=true mends"),
}


def main(argv: list[str] | None = None) -> int:
    """Run `walkforge` and return its exit code: 0 done, 1 the work failed, 2 bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "COMP_LINE" in os.environ:
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else EXIT_BAD_INPUT
    verb, *rest = arguments
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return _fail(f"unknown verb {verb!r}: the verbs are {', '.join(VERBS)}{hint}", EXIT_BAD_INPUT)
    return _run(verb, rest)


def _run(verb: str, overrides: list[str]) -> int:
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        chosen = VERBS[verb]
        if chosen.launches and sys.stderr.isatty() and not _only_printing(overrides):
            print("loading ...", file=sys.stderr)  # takes seconds, in which a person would see nothing
        jobs = compose_jobs(verb, overrides)
        codes = [chosen.load()(job.config, *([job.typed] if chosen.launches else [])) or 0 for job in jobs]
        return max(codes, default=0)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except WalkforgeError as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), error.exit_code)


def compose(verb: str, overrides: list[str]) -> list[Any]:
    """Return the composed, checked configuration of each job (one, or several with -m)."""
    return [job.config for job in compose_jobs(verb, overrides)]


def compose_jobs(verb: str, overrides: list[str]) -> list[Job]:
    """Return each job with its words."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from optimize.cli.refusals import check_flags, one_line
    from optimize.compose import SCHEMAS, register_schemas, to_config

    check_flags(verb, overrides)
    register_schemas()
    composed: list[Job] = []
    several = MULTIRUN & set(overrides) or any(word.startswith("hydra.mode=") for word in overrides)

    def keep(config: Any) -> None:
        composed.append(Job(config, list(HydraConfig.get().overrides.task) if several else overrides))

    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits; the one line is ours to write
    sys.argv = [f"walkforge {verb}", *overrides]
    try:
        with ExitStack() as held:
            if _only_printing(overrides):
                held.enter_context(_masked())
            if several:
                sys.argv = _with_setting(sys.argv, held.enter_context(_passing_folder()))
            hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=verb)(keep)()
        return [Job(to_config(job.config, SCHEMAS[verb]), job.typed) for job in composed]
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra merges with ValueError
        raise BadInputError(hide_secrets(one_line(verb, error, overrides))) from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _only_printing(overrides: list[str]) -> bool:
    return bool(PRINTING & {word.partition("=")[0] for word in overrides})


@contextmanager
def _masked() -> Iterator[None]:
    """Print what is printed meanwhile without passwords and tokens: people paste it into reports."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        print(hide_secrets(said.getvalue()), end="")


@contextmanager
def _passing_folder() -> Iterator[str]:
    """Yield the setting of a folder, soon deleted, for the configuration that Hydra saves with a sweep."""
    with tempfile.TemporaryDirectory() as folder:  # nobody else may read it
        escaped = folder.replace("\\", "\\\\").replace("'", "\\'")
        yield f"hydra.sweep.dir='{escaped}'"


def _with_setting(words: list[str], setting: str) -> list[str]:
    """Return a command with one more setting beside its others: argparse takes those of one place alone."""
    first = next((n for n, word in enumerate(words) if n and "=" in word and word[0] != "-"), len(words))
    return [*words[:first], setting, *words[first:]]


def hide_secrets(text: str) -> str:
    """Return a text without the passwords of databases and the tokens of services in it."""
    return TOKEN.sub(r"\1***", OPTION.sub(r"\1***", PASSWORD.sub(r"\1:***@", text)))


def _complete(arguments: list[str]) -> int:
    """Serve Hydra's tab completion: verbs first, then the chosen verb's keys."""
    import hydra

    line = os.environ["COMP_LINE"]
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        typed = words[1] if len(words) == 2 else ""
        print("\n".join(verb for verb in VERBS if verb.startswith(typed)))
        return 0
    program, verb, *_ = words
    if verb not in VERBS:
        return EXIT_BAD_INPUT
    from optimize.compose import register_schemas

    register_schemas()
    os.environ["COMP_LINE"] = line.replace(f"{program} {verb}", program, 1)
    os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    sys.argv = [program, *[argument for argument in arguments if argument != verb]]
    hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=verb)(lambda _: None)()
    return 0


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "walkforge VERB key=value ...   find trading agents that survive\n\n"
        f"{verbs}\n\n"
        "walkforge VERB --help      the groups and keys of a verb\n"
        "walkforge VERB --cfg job   the composed configuration\n"
        'eval "$(walkforge study -sc install=bash)"   tab completion'
    )


def _fail(message: str, code: int) -> int:
    print(f"walkforge: {message}", file=sys.stderr)
    return code
