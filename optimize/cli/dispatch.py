"""Strip the verb, let Hydra compose, run the verb's function, turn errors into one line and an exit code."""

import difflib
import importlib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from optimize.errors import BadInputError, WalkforgeError

CONFIG_PATH = "pkg://optimize.conf"
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 1
PRINTING = {"-c", "--cfg", "-i", "--info", "-h", "--help"}  # flags that let Hydra print the configuration
PASSWORD = re.compile(r"(\w+://[^\s/:@]*):[^\s@]+@")  # of a database URL
TOKEN = re.compile(r"^(\s*- \W?\w+://).*$", re.MULTILINE)  # of a service that is notified


@dataclass(frozen=True)
class Verb:
    """A verb: where its function is (imported when called) and what it does."""

    function: str
    help: str

    def load(self) -> Callable[[Any], int | None]:
        """Import and return the verb's function."""
        module, name = self.function.split(":")
        function: Callable[[Any], int | None] = getattr(importlib.import_module(module), name)
        return function


VERBS: dict[str, Verb] = {
    "data": Verb("optimize.cli.data:data", "fetch, resample, check and describe a data set"),
    "walk-forward": Verb("optimize.cli.walk_forward:walk_forward", "evaluate one configuration, no search"),
    "study": Verb("optimize.cli.study:study", "run or resume a study to its cap"),
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
        configs = compose(verb, overrides)
        codes = [VERBS[verb].load()(config) or 0 for config in configs]
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
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from optimize.cli.refusals import check_flags, one_line
    from optimize.compose import SCHEMAS, register_schemas, to_config

    check_flags(verb, overrides)
    register_schemas()
    composed: list[Any] = []
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits; the one line is ours to write
    sys.argv = [f"walkforge {verb}", *overrides]
    try:
        with _masked() if PRINTING & {word.partition("=")[0] for word in overrides} else nullcontext():
            hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=verb)(composed.append)()
        return [to_config(config, SCHEMAS[verb]) for config in composed]
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra merges with ValueError
        raise BadInputError(one_line(verb, error)) from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def _masked() -> Iterator[None]:
    """Print what is printed meanwhile without passwords and tokens: people paste it into reports."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        print(TOKEN.sub(r"\1***", PASSWORD.sub(r"\1:***@", said.getvalue())), end="")


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
