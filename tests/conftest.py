"""Fixtures shared by all tests; one compute thread a process, no display."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in a shell's background: Ctrl-C is tested too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # started by nohup: so is a terminal that goes away
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
gc.disable()  # while the tests are collected: what they import stays
os.environ.pop("COLUMNS", None)  # of the terminal that runs the tests: tables are whole without it

import pytest  # noqa: E402  (thread limits must be set before numpy is imported)
from alembic.config import Config  # noqa: E402
from alembic.script import ScriptDirectory  # noqa: E402

from envs.rewards import REWARDS  # noqa: E402
from optimize import extensions  # noqa: E402
from optimize.agents.registry import ALGORITHMS  # noqa: E402
from optimize.data.features import FEATURES  # noqa: E402
from optimize.data.features.spec import FEATURE_KEYS  # noqa: E402
from tests.postgres import database_url, postgres, postgres_server  # noqa: E402
from tests.required_markers import RequiredMarkers  # noqa: E402
from tests.schedule import order_dearest_first  # noqa: E402
from tests.settings_files import settings_read_once  # noqa: E402
from tests.unflushed import nothing_flushed_to_disk  # noqa: E402

__all__ = ["database_url", "nothing_flushed_to_disk", "postgres", "postgres_server", "settings_read_once"]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Return the folder of real market data, or skip where it is absent."""
    folder = Path(os.environ.get("WALKFORGE_MARKET_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no market data at {folder}; set WALKFORGE_MARKET_DATA")
    return folder


@pytest.fixture(autouse=True)
def registries_kept() -> Iterator[None]:
    """Remove the features, rewards and agents that a test registers when it ends."""
    registries: list[dict[str, Any]] = [REWARDS, FEATURES, FEATURE_KEYS, ALGORITHMS, extensions._LOADED]
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture(autouse=True, scope="session")
def revisions_read_once() -> Iterator[None]:
    """Read the revisions of tables once a process, and not for each new database."""
    read = ScriptDirectory.from_config
    scripts: dict[str | None, ScriptDirectory] = {}

    def read_once(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in scripts:
            scripts[place] = read(config)
        return scripts[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", read_once)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the dearest files first."""
    order_dearest_first(items, REPOSITORY / "tests")


def pytest_collection_finish() -> None:
    """Leave the 600,000 objects of the imported modules out of every garbage collection: each took 0.3 s."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """In CI, where WALKFORGE_REQUIRED_MARKERS names a file, hold every marker it lists to account."""
    listed = os.environ.get("WALKFORGE_REQUIRED_MARKERS")
    if listed and not hasattr(config, "workerinput"):  # pytest-xdist: its workers see only a part
        config.pluginmanager.register(RequiredMarkers((REPOSITORY / listed).read_text().split()))
