"""CI fails when a required test is skipped or missing; it runs a small suite with the real plugin."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from tests.required_markers import RequiredMarkers

@pytest.mark.market_data
def test_real():
    {body}
"""


CONFTEST = """
from tests.required_markers import RequiredMarkers

def pytest_configure(config):
    config.addinivalue_line("markers", "market_data: real")
    config.pluginmanager.register(RequiredMarkers([{marker!r}]))
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no plugin but the one that a run asks for, which saves most of its time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("pytest.skip('absent')", 1), ("assert False", 1)])
def test_a_required_test_must_run(pytester: pytest.Pytester, body: str, code: int) -> None:
    pytester.makeconftest(CONFTEST.format(marker="market_data"))
    pytester.makepyfile(SUITE.format(body=body))
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider").ret == code


@pytest.mark.slow
def test_a_required_test_may_run_in_another_process_and_is_not_skipped_there(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST.format(marker="market_data"))
    pytester.makepyfile(SUITE.format(body="pass"))
    command = ("-p", "no:cacheprovider", "-p", "xdist", "-n", "1")
    assert pytester.runpytest_subprocess(*command).ret == 0
    pytester.makepyfile(test_other=SUITE.format(body="pytest.skip('absent')"))
    ran = pytester.runpytest_subprocess(*command)
    assert ran.ret == 1
    ran.stdout.fnmatch_lines("REQUIRED MARKER skipped: test_other.py::test_real")


def test_a_marker_that_no_test_carries_fails(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.format(marker="browser"))
    pytester.makepyfile("def test_other(): pass")
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider").ret == 1


def test_every_required_marker_is_registered(pytestconfig: pytest.Config) -> None:
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(Path(REPOSITORY / ".ci/required-markers").read_text().split()) <= known
