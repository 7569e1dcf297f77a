"""Fields of specs are declared once, with role, meaning and range."""

import dataclasses
import math
from typing import Any

import pytest

from envs.errors import BadInputError
from envs.fields import (
    EXECUTION,
    MARKET,
    RUN,
    SECRET,
    Declared,
    Setting,
    check_ranges,
    group,
    groups_of,
    keys_of,
    setting,
)


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = setting(0.5, RUN, "A rate.", unit="a year", above=0, high=1)
    named: dict[str, Any] = setting(
        {}, RUN, "More.", open_keys=lambda: {"more": Declared(int, 3, Setting(RUN, "More of it."))}
    )


@dataclasses.dataclass(frozen=True)
class Outer:
    bars: int = setting(3, MARKET, "Some bars.", low=1, high=9)
    exam: Inner = group(Inner, "Asked.", fixed="it is the exam")
    free: Inner = group(Inner, "Free.", changeable=True)
    place: str = setting("here", EXECUTION, "A place.", choices=("here", "there"))
    token: list[str] = setting([], SECRET, "A token.", shown=False)
    limits: list[float] = setting([], RUN, "Limits.", above=0)


def test_the_keys_of_a_spec_are_walked_with_what_their_groups_add() -> None:
    keys = keys_of(Outer, "top")
    assert list(keys) == [
        "top.bars", "top.exam.rate", "top.exam.more", "top.free.rate", "top.free.more", "top.place",
        "top.token", "top.limits",
    ]  # fmt: skip
    assert keys["top.exam.rate"].unsearchable == keys["top.exam.more"].unsearchable == "it is the exam"
    assert keys["top.free.rate"].unsearchable is None
    assert keys["top.place"].unsearchable == "it decides how a study runs, and changes no trial"
    changeable = {path.removeprefix("top.") for path, key in keys.items() if key.changeable}
    assert changeable == {"free.rate", "free.more", "place", "token"}
    assert keys["top.free.more"].default == 3
    assert keys["top.exam.rate"].setting.range == "above 0 and at most 1 (a year)"
    assert list(groups_of(Outer)) == ["exam", "free"]


@pytest.mark.parametrize(
    "change",
    [{"bars": 0}, {"bars": 10}, {"place": "nowhere"}, {"limits": [1.0, 0.0]}, {"limits": [math.inf]}],
)
def test_a_value_outside_of_its_range_is_refused_by_name(change: dict[str, Any]) -> None:
    key = next(iter(change))
    with pytest.raises(BadInputError, match=f"^top.{key}="):
        check_ranges(dataclasses.replace(Outer(), **change), "top")
    check_ranges(Outer(limits=[0.5]), "top")


def test_what_is_not_shown_is_out_of_the_repr() -> None:
    assert "token" not in repr(Outer(token=["t"]))
