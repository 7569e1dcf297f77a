"""CI fails when a required test is skipped or missing; it runs a small suite with the real plugin."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from tests.conftest import RequiredMarkers

@pytest.mark.market_data
def test_real():
    {body}
"""


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("pytest.skip('absent')", 1), ("assert False", 1)])
def test_a_required_test_must_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, body: str, code: int, processes: str
) -> None:
    pytester.makeconftest(
        "from tests.conftest import RequiredMarkers\n"
        "def pytest_configure(config):\n"
        "    config.addinivalue_line('markers', 'market_data: real')\n"
        "    config.pluginmanager.register(RequiredMarkers(['market_data']))\n"
    )
    pytester.makepyfile(SUITE.format(body=body))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", processes).ret == code


def test_a_marker_that_no_test_carries_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(
        "from tests.conftest import RequiredMarkers\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(RequiredMarkers(['browser']))\n"
    )
    pytester.makepyfile("def test_other(): pass")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert pytester.runpytest_subprocess("-p", "no:cacheprovider").ret == 1


def test_every_required_marker_is_registered(pytestconfig: pytest.Config) -> None:
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(Path(REPOSITORY / ".ci/required-markers").read_text().split()) <= known
