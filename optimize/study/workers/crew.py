"""The crew of a study on this machine: its workers, run to the cap and shown while they work."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from optimize.database.address import in_words
from optimize.errors import StudyStoppedError
from optimize.study.cautions import cautions, memory_here
from optimize.study.claims.batch import on_timing
from optimize.study.claims.control import Notice
from optimize.study.claims.telling import counted
from optimize.study.claims.triage import notable
from optimize.study.handle import Handle
from optimize.study.spec import StudySpec
from optimize.study.workers.nodes import connected
from optimize.study.workers.progress import Heard, progress
from optimize.study.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from optimize.study.workers.cluster import RayCrew


def supervise(handle: Handle, console: Console, windows: int, heard: Heard = lambda run, total: None) -> None:
    """Run this machine's workers until the study is at its cap or stopped, and show how far it is."""
    spec = handle.spec
    timing = on_timing(spec)
    for word in (*([] if timing is None else [timing]), *cautions(spec, windows, memory_here())):
        console.print(f"{spec.name}: {word}", highlight=False, markup=False, soft_wrap=True)
    count = spec.worker.count
    words = f"{spec.name}: starting {count} worker{'s' if count > 1 else ''}"
    console.print(words, highlight=False, markup=False, soft_wrap=True)
    supervisor = _crew_of(handle)
    notice = Notice(handle, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    with progress(
        handle, spec.n_trials, console, crew=supervisor.members, windows=windows, heard=heard
    ) as shown:

        def show() -> None:
            notice.show()
            shown.show()

        try:
            supervisor.run(show)
        except StudyStoppedError as error:
            ending = notable(counted(handle), spec.n_trials, spec.name, in_words(spec.database.url))
            raise StudyStoppedError(f"{error}{ending}") from error
        finally:
            shown.refresh()


def workplace(spec: StudySpec, say: Callable[[str], None]) -> AbstractContextManager[Any]:
    """Return what holds the place of the workers for a whole launch: one connection to Ray, or nothing.

    It is entered before the study takes its name, so that a cluster that cannot run it leaves no study.
    """
    return nullcontext() if spec.worker.kind == "local" else connected(spec, say)


def _crew_of(handle: Handle) -> "Supervisor | RayCrew":
    if handle.spec.worker.kind == "local":
        return Supervisor(handle)
    from optimize.study.workers.cluster import RayCrew  # Ray is an extra

    return RayCrew(handle)
