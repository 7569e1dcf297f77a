"""The crew of a study on this machine: its workers, run to the cap and shown while they work."""

from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from optimize.errors import StudyStoppedError
from optimize.study.claims.batch import on_timing
from optimize.study.claims.control import Notice
from optimize.study.claims.telling import counted
from optimize.study.claims.triage import notable
from optimize.study.handle import Handle
from optimize.study.workers.progress import Heard, progress
from optimize.study.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from optimize.study.workers.cluster import RayCrew


def supervise(handle: Handle, console: Console, windows: int, heard: Heard = lambda run, total: None) -> None:
    """Run this machine's workers until the study is at its cap or stopped, and show how far it is."""
    spec = handle.spec
    if (word := on_timing(spec)) is not None:
        console.print(f"{spec.name}: {word}", highlight=False, markup=False, soft_wrap=True)
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
            ending = notable(counted(handle), spec.n_trials, spec.name)
            raise StudyStoppedError(f"{error}{ending}") from error
        finally:
            shown.refresh()


def _crew_of(handle: Handle) -> "Supervisor | RayCrew":
    if handle.spec.worker.kind == "local":
        return Supervisor(handle)
    from optimize.study.workers.cluster import RayCrew  # Ray is an extra

    return RayCrew(handle)
