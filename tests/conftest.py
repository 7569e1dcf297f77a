"""Fixtures shared by all tests; one compute thread a process, no display."""

import os
import signal
from pathlib import Path

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in a shell's background: Ctrl-C is tested too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # started by nohup: so is a terminal that goes away
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("COLUMNS", None)  # of the terminal that runs the tests: tables are whole without it

import pytest  # noqa: E402  (thread limits must be set before numpy is imported)

from tests.postgres import database_url, postgres, postgres_server  # noqa: E402

__all__ = ["database_url", "postgres", "postgres_server"]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Return the folder of real market data, or skip where it is absent."""
    folder = Path(os.environ.get("WALKFORGE_MARKET_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no market data at {folder}; set WALKFORGE_MARKET_DATA")
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """In CI, where WALKFORGE_REQUIRED_MARKERS names a file, hold every marker it lists to account."""
    listed = os.environ.get("WALKFORGE_REQUIRED_MARKERS")
    if listed and not hasattr(config, "workerinput"):  # pytest-xdist: its workers see only a part
        config.pluginmanager.register(RequiredMarkers((REPOSITORY / listed).read_text().split()))


class RequiredMarkers:
    """Fail the session when a test with a required marker was skipped, or when none ran."""

    def __init__(self, markers: list[str]) -> None:
        self.passed = dict.fromkeys(markers, 0)
        self.skipped: list[str] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what ran and what did not."""
        marked = self.passed.keys() & set(report.keywords)
        if report.skipped and marked:
            self.skipped.append(report.nodeid)
        elif report.when == "call" and report.passed:
            for marker in marked:
                self.passed[marker] += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a skip into a failure of the whole run."""
        idle = [marker for marker, count in self.passed.items() if count == 0]
        for problem in (*(f"skipped: {node}" for node in self.skipped), *(f"no test ran: {m}" for m in idle)):
            print(f"\nREQUIRED MARKER {problem}")
        if self.skipped or idle:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
