"""The plugin of CI by which a required test that was skipped fails the session."""

import pytest


class RequiredMarkers:
    """Fail the session when a test with a required marker was skipped, or when none ran."""

    def __init__(self, markers: list[str]) -> None:
        self.passed = dict.fromkeys(markers, 0)
        self.skipped: list[str] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the required tests that passed, and list those that were skipped."""
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
