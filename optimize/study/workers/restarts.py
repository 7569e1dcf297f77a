"""When a dead worker is replaced, here or on a cluster: later each time while no trial finishes."""

from sqlalchemy.exc import DBAPIError

from optimize.results.runs import count_counted
from optimize.study.handle import Handle

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0  # before the second dead worker in a row is replaced, and the last


def count_finished(handle: Handle, known: int) -> int:
    """Return how many trials have finished; those known of, where the database does not say."""
    try:
        with handle.engine.connect() as conn:
            return count_counted(conn, handle.spec.name)
    except DBAPIError:  # the database is away: that is what may have ended the worker
        return known


def delay_s(restarts: int) -> float:
    """Return the seconds before a dead worker is replaced, of so many since a trial finished."""
    return min(FIRST_DELAY_S * 2 ** (restarts - 2), LONGEST_DELAY_S) if restarts > 1 else 0.0
