"""Values of a space that a market is too short for are refused before the first trial."""

from pathlib import Path

import pytest

from optimize.errors import BadInputError
from optimize.search.parse import parse_space
from optimize.study.launch.markets import build_markets
from tests.optimize.study.studies import small_spec


def test_a_searched_validation_tail_that_is_too_short_is_refused_at_launch(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, space={"train": {"validation": [0.0, 0.02]}})
    with pytest.raises(BadInputError, match=r"offers train.validation=0.02: .* in window 0 .* is a tail of "):
        build_markets(spec, parse_space(spec.space))
