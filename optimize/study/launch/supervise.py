"""Run the workers of a study on this machine or on a cluster, and display their progress."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from optimize.database.address import in_words
from optimize.errors import StudyStoppedError
from optimize.study.context import StudyContext
from optimize.study.control import StateNotice
from optimize.study.failures.stops import enough_to_read
from optimize.study.launch.figure_refresh import FigureRefresh
from optimize.study.launch.ray_connection import ray_connection
from optimize.study.launch.warnings import launch_warnings, memory_here
from optimize.study.spec import StudySpec
from optimize.study.trials.ask import timing_note
from optimize.study.trials.tell import counted
from optimize.study.workers.progress import OnRunEnd, progress
from optimize.study.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from optimize.study.launch.cluster import RaySupervisor


def supervise(
    context: StudyContext, console: Console, windows: int, on_run_end: OnRunEnd = lambda run, total: None
) -> None:
    """Run the workers until the study is at its cap or stopped, and display the progress."""
    spec = context.spec
    echo = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    timing = timing_note(spec)
    for word in (*([] if timing is None else [timing]), *launch_warnings(spec, windows, memory_here())):
        echo(f"{spec.name}: {word}")
    count = spec.worker.count
    echo(f"{spec.name}: starting {count} worker{'s' if count > 1 else ''}")
    supervisor = _supervisor_of(context)
    notice = StateNotice(context, echo)
    with (
        progress(
            context,
            spec.n_trials,
            console,
            processes=supervisor.running_processes,
            windows=windows,
            on_run_end=on_run_end,
        ) as shown,
        closing(FigureRefresh(context, echo)) as figures,
    ):

        def show() -> None:
            notice.show()
            shown.show()
            figures.poll()

        try:
            supervisor.run(show)
        except StudyStoppedError as error:
            ending = enough_to_read(counted(context), spec.n_trials, spec.name, in_words(spec.database.url))
            raise StudyStoppedError(f"{error}{ending}") from error
        finally:
            shown.refresh()


def cluster_connection(spec: StudySpec, echo: Callable[[str], None]) -> AbstractContextManager[Any]:
    """Return the connection to Ray that lasts for a whole launch; an empty context for local workers.

    It is entered before the study is stored, so that a cluster that cannot run it leaves no study behind.
    """
    return nullcontext() if spec.worker.kind == "local" else ray_connection(spec, echo)


def _supervisor_of(context: StudyContext) -> "Supervisor | RaySupervisor":
    if context.spec.worker.kind == "local":
        return Supervisor(context)
    from optimize.study.launch.cluster import RaySupervisor  # Ray is an extra

    return RaySupervisor(context)
