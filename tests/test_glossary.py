"""docs/glossary.md names each term once, with a module that exists."""

import re

import pytest

from tests.conftest import REPOSITORY

ROWS = re.findall(
    r"^\| ([^|]+) \| ([^|]+) \|(?: `([^`|]+)` \|)?$",
    (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
TERMS = [(term, module) for term, meaning, module in ROWS if term != "term"]
# The nouns of the design; each part that is added moves its own from the last table to one with a module.
REQUIRED = {
    "bar", "timeframe", "lookback", "feature", "label", "session", "window", "purge", "embargo", "holdout",
    "study", "trial", "run", "phase", "worker", "score", "bundle", "leaderboard", "finalist", "arena",
    "match", "champion", "challenger", "sandbox", "production", "operation", "lease", "claim", "baseline",
    "standard error",
}  # fmt: skip
LATER = {
    "label", "arena", "match", "champion", "challenger", "sandbox",
    "production", "operation",
}  # fmt: skip


def test_every_noun_of_the_design_is_defined_once() -> None:
    terms = [term for term, _ in TERMS]
    assert sorted(terms) == sorted(set(terms))
    assert set(terms) >= REQUIRED


@pytest.mark.parametrize(("term", "module"), TERMS, ids=[term for term, _ in TERMS])
def test_a_term_names_the_module_that_defines_it(term: str, module: str) -> None:
    assert bool(module) == (term not in LATER)
    place = REPOSITORY / module
    assert not module or place.is_file() or (place / "__init__.py").is_file()
