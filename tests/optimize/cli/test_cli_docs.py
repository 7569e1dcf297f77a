"""Commands of README and of every page of the documentation work as a shell reads them."""

import re
import shlex
from pathlib import Path

import pytest

from optimize.cli.arguments import read_command
from optimize.cli.composition import compose_tree, composing
from optimize.cli.verbs import VERBS
from tests.conftest import REPOSITORY
from tests.tiers import mostly_slow

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
FLAGS = {"--help", "--cfg", "--version"}
README_BYTES = 8 * 1024


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command line of a page, that of `walkforge` left out."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:\$ |exec srun )?walkforge (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def composed_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Check the words of each command of a page and return those to compose."""
    found = []
    for verb, *words in commands(page):
        if not verb.islower() or verb not in VERBS:
            assert verb == "VERB", f"{page.name}: walkforge {verb} is no verb"
            continue
        for word in words:
            assert word.count("{") == word.count("}"), f"{page.name}: {word!r} needs quotes"
            assert word.count("[") == word.count("]"), f"{page.name}: {word!r} needs quotes"
        if "..." in words or FLAGS & set(words):
            continue
        found.append((verb, words))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_command_names_a_verb_and_closes_its_brackets(page: Path) -> None:
    composed_commands(page)


@pytest.mark.parametrize("page", mostly_slow(PAGES, README))
def test_every_command_composes(page: Path) -> None:
    for verb, words in composed_commands(page):
        command = read_command(verb, words)
        with composing(verb, command.words) as hydra:
            compose_tree(verb, command.words, hydra)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= README_BYTES
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []
