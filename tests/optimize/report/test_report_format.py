"""Scores have one form: no other module rounds one."""

import ast
import re
from pathlib import Path

import pytest

import optimize
from optimize.report.format import LEGEND_WIDTH, decimal, format_score, legend_text, number, percent

ROOT = Path(optimize.__file__).parent
WRITERS = {ROOT / "report" / "format.py"}
SCORED = re.compile(
    r"^(?!100 \*).*(score|sharpe|best|mean|standard_error|p_value|deviation)"
)  # a share in percent is none
ROUNDED = re.compile(r"\.\d+f$")


def rounded_scores(source: str) -> list[str]:
    """Return the expressions of f-strings that round a score by a format of their own."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FormattedValue)]
    rounded = [
        node for node in found if node.format_spec and ROUNDED.search(ast.unparse(node.format_spec)[2:-1])
    ]
    return [name for node in rounded if SCORED.match(name := ast.unparse(node.value))]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.3552, "+1.36"), (-0.004, "+0.00"), (None, "-"), (float("nan"), "-"), (12.0, "+12.00")],
)
def test_a_score_has_a_sign_and_two_digits(value: float | None, text: str) -> None:
    assert format_score(value) == text


def test_a_score_rounded_elsewhere_is_found() -> None:
    assert rounded_scores('f"best {run.score:+.3f}, {run.seconds:.1f} s"') == ["run.score"]


def test_only_the_format_module_rounds_scores() -> None:
    modules = [path for path in ROOT.rglob("*.py") if path not in WRITERS]
    assert {str(path): names for path in modules if (names := rounded_scores(path.read_text()))} == {}


def test_a_figure_that_rounds_to_zero_has_no_minus() -> None:
    assert format_score(-0.004) == "+0.00"
    assert (number()(-0.001), percent(-0.0004), decimal(-0.001)) == ("0.00", "+0.0%", "0.00")


def test_a_long_name_in_a_legend_is_broken_once() -> None:
    assert legend_text(None) is None
    assert legend_text("trial 7") == "trial 7"
    long = "buy_and_hold, bought anew at the open of each session and sold at its forced exit"
    broken = legend_text(long)
    assert broken is not None
    assert max(map(len, broken.split("<br>"))) <= LEGEND_WIDTH
    assert broken.replace("<br>", " ") == long
    assert legend_text(broken) == broken
