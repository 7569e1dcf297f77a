"""States of studies, runs and trials, with the texts that the database holds."""

from enum import StrEnum


class StudyState(StrEnum):
    """Whether workers may claim trials of a study."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"  # its cap is reached and no trial is open; computed and not stored


class WorkerState(StrEnum):
    """State of the worker that holds a lease, seen from this machine."""

    ALIVE = "alive"
    GIVEN_BACK = "given back"  # it ended and left its trial for others
    LOST = "lost"
    AHEAD = "renewed in the future, the clock was set back"


class RunState(StrEnum):
    """State of one attempt at a trial."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    RETRIED = "RETRIED"  # it failed for a passing reason: its trial runs once more
    LOST = "LOST"  # it ended without recording an outcome


class FailureKind(StrEnum):
    """Cause of a failed run."""

    OUT_OF_MEMORY = "oom"
    TIMEOUT = "timeout"
    DISK = "disk"  # full, or over a quota
    DATABASE = "database"  # away or locked
    DATA = "data"
    CONFIG = "config"
    NUMERIC = "numeric"  # NaN in loss, observation or ledger
    STALE = "stale"  # its worker died twice within one window
    BUG = "bug"  # any other error


class TryKind(StrEnum):
    """Origin of a try: a run that evaluated a test window."""

    TRIAL = "trial"
    FINALIST = "finalist"
    WALK_FORWARD = "walk_forward"  # of the verb
    NESTED = "nested"
    ENSEMBLE = "ensemble"  # an exported mean of several agents


class SetSource(StrEnum):
    """Origin of a parameter set."""

    SAMPLER = "sampler"
    ENQUEUE = "enqueue"  # search.enqueue
    START_FROM = "start_from"  # search.start_from
    BY_HAND = "by_hand"  # queued or finished through Optuna itself


class TrialState(StrEnum):
    """State of a trial in the tables of Optuna."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


COUNTED = (RunState.COMPLETE, RunState.PRUNED)  # against the cap
FINISHED = (*COUNTED, RunState.FAIL)


class LuckVerdict(StrEnum):
    """Answer to whether the best of many tries beats a benchmark by more than chance."""

    FOUND = "found"
    LUCK = "luck"
    CANNOT_TELL = "cannot tell"
