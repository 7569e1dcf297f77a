"""Back-off of the restart of dead workers while no trial finishes."""

from optimize.database import DBAPIError
from optimize.results.runs import count_counted
from optimize.study.context import StudyContext

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0  # delay of the second and the longest delay of any restart


def count_finished(context: StudyContext, known: int) -> int:
    """Return the number of finished trials; the known number if the database cannot be reached."""
    try:
        with context.engine.connect() as conn:
            return count_counted(conn, context.spec.name)
    except DBAPIError:  # the same cause may have ended the worker
        return known


def delay_s(restarts: int) -> float:
    """Return the delay of a restart in seconds, from the number of restarts since a trial finished."""
    return min(FIRST_DELAY_S * 2 ** (restarts - 2), LONGEST_DELAY_S) if restarts > 1 else 0.0
