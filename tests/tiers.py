"""Parametrisations of which the default tier runs a few cases and the full tier all."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], *default: Any) -> list[Any]:
    """Return the cases with the marker `slow` on all but the default ones; a tuple is several arguments."""
    listed = list(cases)
    absent = [case for case in default if case not in listed]
    assert not absent, f"no case is {absent}"
    return [
        case
        if case in default
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in listed
    ]
