"""Read a command, compose its configuration, run its verb, and turn every outcome into an exit code."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from optimize.cli.arguments import Command, read_command, repeated
from optimize.cli.error_lines import EXIT_BAD_INPUT, describe, open_streams, report
from optimize.cli.verbs import VERBS
from optimize.errors import BadInputError, near_hint
from optimize.secrets import hide_secrets
from optimize.spawning import uncollected
from optimize.study.workers.signals import interrupt, signals_answered

if TYPE_CHECKING:
    from optimize.cli.composition import Job

FULL_ERROR = "HYDRA_FULL_ERROR"


def run_command(argv: list[str] | None = None) -> int:
    """Run `walkforge` and return its exit code: 0 done, 1 the work failed, 2 bad input."""
    open_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = os.environ.get(FULL_ERROR) == "1" or "debug.traceback=true" in arguments
    try:
        code = _dispatch(arguments, alone=argv is None)
        sys.stdout.flush()  # a reader that is gone, or a full disk, is noticed here and not at exit
        return code
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return report(describe(error, arguments), error, arguments, traceback=traceback)


def _dispatch(arguments: list[str], *, alone: bool) -> int:
    if "COMP_LINE" in os.environ:
        return _complete()
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["help"]:
        print(_usage())
        return 0 if arguments else EXIT_BAD_INPUT
    if arguments[0] == "help" and arguments[1:2] and arguments[1] in VERBS:
        arguments = [arguments[1], "--help"]
    if arguments[0] in ("-V", "--version", "version"):
        print(f"walkforge {_version()}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise BadInputError(
            f"unknown verb {verb!r}: the verbs are {', '.join(VERBS)}{near_hint(verb, VERBS)}"
        )
    if "--version" in rest:
        print(f"walkforge {_version()}")
        return 0
    return _run(verb, read_command(verb, rest), alone=alone)


def _run(verb: str, command: Command, *, alone: bool) -> int:
    """Run a verb; `alone`: in a process that does nothing else."""
    chosen = VERBS[verb]
    if command.completes:
        return _install_completion(verb, command)
    if command.helps:
        from optimize.cli.help import verb_help

        print(verb_help(verb, command.words))
        return 0
    if command.shows:
        _show(verb, command)
        return 0
    if chosen.launches and sys.stderr is not None and sys.stderr.isatty():
        print("loading ...", file=sys.stderr)  # takes seconds, in which a person would see nothing
    for key, value in repeated(command.words):
        line = f"{key} is given more than once: {key}={value} counts"
        print(hide_secrets(line, command.words), file=sys.stderr)
    with signals_answered(interrupt):  # a temporary folder must not outlive SIGTERM
        with uncollected() if alone else nullcontext():
            from optimize.cli.debug_run import say_cut

            jobs, run = _jobs(verb, command), chosen.load()
        codes = []
        for job in jobs:
            codes.append(run(job.config, *([job.typed] if chosen.launches else [])) or 0)
            say_cut(verb, job.config, job.typed)
    return max(codes, default=0)


def compose_configs(verb: str, arguments: Sequence[str]) -> list[Any]:
    """Return the composed, checked configuration of each job (one, or several with -m)."""
    return [job.config for job in command_jobs(verb, arguments)]


def command_jobs(verb: str, arguments: Sequence[str]) -> "list[Job]":
    """Return each job with its words."""
    return _jobs(verb, read_command(verb, arguments))


def _jobs(verb: str, command: Command) -> "list[Job]":
    from optimize.cli.composition import Job, compose_jobs

    jobs = compose_jobs(verb, command.words, several=command.several)
    return jobs if command.several else [Job(job.config, command.typed) for job in jobs]


def _show(verb: str, command: Command) -> None:
    """Print the composed configuration, without secrets: people paste it into reports."""
    from omegaconf import Container, OmegaConf

    from optimize.cli.composition import compose_tree, composing

    with composing(verb, command.words) as hydra:
        shown: Any = compose_tree(verb, command.words, hydra).config
        if command.resolve:
            OmegaConf.resolve(shown)
        if command.package is not None:
            shown = OmegaConf.select(shown, command.package)
            if shown is None:
                raise BadInputError(f"-p {command.package}: the configuration has no such part")
    text = OmegaConf.to_yaml(shown) if isinstance(shown, Container) else f"{shown}\n"
    print(hide_secrets(text, command.words), end="")


def _complete() -> int:
    """Serve tab completion: verbs first, then the chosen verb's keys."""
    line = os.environ["COMP_LINE"]
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        typed = words[1] if len(words) == 2 else ""
        print("\n".join(verb for verb in VERBS if verb.startswith(typed)))
        return 0
    program, verb, *_ = words
    if verb not in VERBS:
        return EXIT_BAD_INPUT
    if "hydra" in line:  # of Hydra's own configuration nothing is completed
        return 0
    from optimize.cli.composition import composing

    os.environ["COMP_LINE"] = line.replace(f"{program} {verb}", program, 1)
    os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    with composing(verb, []) as hydra:
        hydra.shell_completion(verb, ["query=bash"])
    return 0


def _install_completion(verb: str, command: Command) -> int:
    """Print the shell's side of tab completion, which `eval` installs."""
    from optimize.cli.composition import composing

    with composing(verb, []) as hydra:
        hydra.shell_completion(verb, command.words)
    return 0


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "walkforge VERB key=value ...   find trading agents that survive\n\n"
        f"{verbs}\n\n"
        "walkforge VERB --help      examples, groups and keys of a verb\n"
        "walkforge VERB --cfg job   the composed configuration\n"
        "walkforge --version        the version\n"
        'eval "$(walkforge study -sc install=bash)"   tab completion'
    )


def _version() -> str:
    try:
        return version("walkforge")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "(not installed)"


__all__ = ["VERBS", "command_jobs", "compose_configs", "run_command"]
