"""Commands of README and docs work as a shell reads them."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_word_a_setting(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?:\$ )?(walkforge .*)$", text, re.MULTILINE):
        for word in shlex.split(line, comments=True):
            assert word.count("{") == word.count("}"), f"{page.name}: {word!r} needs quotes in {line!r}"
            assert word.count("[") == word.count("]"), f"{page.name}: {word!r} needs quotes in {line!r}"
