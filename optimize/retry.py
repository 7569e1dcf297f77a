"""Call a function again while its failures may pass, after growing waits: the only loop of retries."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")
LOOK_S = 0.2  # between two looks whether a wait is to end early


@dataclass(frozen=True)
class Failure:
    """A call that failed in a way that may pass."""

    error: BaseException
    tries: int  # so far, this one included
    wait_s: float  # before the next one


def call_with_retries(
    function: Callable[[], Result],
    *,
    passes: Callable[[BaseException], bool],
    wait_s: Callable[[BaseException, int], float],
    gives_up: Callable[[Failure], bool],
    report: Callable[[Failure], None] = lambda failure: None,
) -> Result:
    """Return the result of a function, called again while `passes` accepts its error.

    `wait_s` takes the error and the number of tries. `gives_up` may raise an error of its own; where it
    returns True, the last error of the function is raised. `report` is called before each wait.
    """
    from tenacity import Retrying, retry_if_exception  # it loads asyncio, which few processes need

    retrying = Retrying(
        retry=retry_if_exception(passes),
        wait=lambda state: wait_s(_error_of(state), state.attempt_number),
        stop=lambda state: gives_up(_failure_of(state)),
        before_sleep=lambda state: report(_failure_of(state)),
        sleep=lambda seconds: time.sleep(seconds),
        reraise=True,
    )
    return retrying(function)


def exponential_s(tries: int, first_s: float, longest_s: float = float("inf")) -> float:
    """Return the wait after so many tries: it doubles with each, up to the longest."""
    return min(first_s * 2.0 ** (tries - 1), longest_s)


def pause(seconds: float, stopping: Callable[[], bool]) -> None:
    """Wait, and end early where `stopping` returns True."""
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left_s, LOOK_S))


def _error_of(state: "RetryCallState") -> BaseException:
    error = None if state.outcome is None else state.outcome.exception()
    if error is None:
        raise ValueError("a call that returned is not retried")
    return error


def _failure_of(state: "RetryCallState") -> Failure:
    return Failure(_error_of(state), state.attempt_number, float(state.upcoming_sleep))
