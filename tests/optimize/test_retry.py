"""A call is repeated while its error may pass, after waits that grow, and no longer than it is worth."""

import subprocess
import sys

import pytest

from optimize.retry import Failure, call_with_retries, exponential_s, pause


class Flaky:
    """Fails so many times, then returns how often it was called."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures, self.calls = failures, 0
        self.error = error or ConnectionError("away")

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    return waits


def repeated(function: Flaky, limit: int, reports: list[Failure] | None = None) -> int:
    return call_with_retries(
        function,
        passes=lambda error: isinstance(error, ConnectionError),
        wait_s=lambda error, tries: exponential_s(tries, 1.0, 5.0),
        gives_up=lambda failure: failure.tries >= limit,
        report=(lambda failure: None) if reports is None else reports.append,
    )


def test_waits_double_up_to_the_longest_and_are_reported(slept: list[float]) -> None:
    reports: list[Failure] = []
    assert repeated(Flaky(4), 9, reports) == 5
    assert slept == [1.0, 2.0, 4.0, 5.0]
    assert [(each.tries, each.wait_s) for each in reports] == [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0)]


def test_the_last_error_is_raised_without_another_wait(slept: list[float]) -> None:
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="away") as raised:
        repeated(flaky, 3)
    assert raised.value is flaky.error
    assert (flaky.calls, slept) == (3, [1.0, 2.0])


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_an_error_that_does_not_pass_is_raised_at_once(error: BaseException, slept: list[float]) -> None:
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        repeated(flaky, 3)
    assert (flaky.calls, slept) == (1, [])


def test_a_pause_ends_early(slept: list[float]) -> None:
    answers = iter([False, False, True])
    pause(60.0, lambda: next(answers))
    assert slept == [0.2, 0.2]


def test_the_library_is_loaded_with_the_first_call_alone() -> None:
    code = "import sys, optimize.retry; print('tenacity' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
