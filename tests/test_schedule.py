"""The order in which the test files run."""

from types import SimpleNamespace
from typing import Any

from tests.conftest import REPOSITORY
from tests.schedule import DEAREST, order_dearest_first

TESTS = REPOSITORY / "tests"


def test_each_of_the_dearest_files_exists_and_is_listed_once() -> None:
    assert [file for file in DEAREST if not (TESTS / file).is_file()] == []
    assert len(set(DEAREST)) == len(DEAREST)


def test_the_dearest_files_run_first_and_the_others_keep_their_order() -> None:
    paths = [TESTS / "a.py", TESTS / DEAREST[1], TESTS / "b.py", TESTS / DEAREST[0], TESTS / DEAREST[1]]
    items: list[Any] = [SimpleNamespace(path=path, name=str(place)) for place, path in enumerate(paths)]
    order_dearest_first(items, TESTS)
    assert [item.name for item in items] == ["3", "1", "4", "0", "2"]
