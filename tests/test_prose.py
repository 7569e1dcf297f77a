"""Docstrings and comments name their subject: the words of vague clauses are rare in them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_PER_1000 = 1.0
VAGUE = {"what": {"what", "whatever"}, "say": {"say", "says", "said", "saying", "tell", "tells", "told"}}
WORD = re.compile(r"[A-Za-z']+")
YAML_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$", re.MULTILINE)


def prose_of(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a Python file, or the comments of a YAML file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        yield from YAML_COMMENT.findall(text)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def words_in(folder: Path) -> list[str]:
    """Return the words of all docstrings and comments below a folder."""
    files = [path for suffix in ("py", "yaml") for path in sorted(folder.rglob(f"*.{suffix}"))]
    return [word.lower() for path in files for text in prose_of(path) for word in WORD.findall(text)]


@pytest.mark.parametrize("package", ["envs", "optimize", "conf", "tests"])
def test_vague_words_are_rare_in_docstrings_and_comments(package: str) -> None:
    words = words_in(ROOT / package)
    assert len(words) > 1000
    found = {name: sum(word in forms for word in words) for name, forms in VAGUE.items()}
    assert {name: n for name, n in found.items() if n > MOST_PER_1000 * len(words) / 1000} == {}


def test_docstrings_and_comments_are_counted_and_other_text_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""One."""\n\ndef f():\n    """Two."""\n    return "three"  # four\n')
    (tmp_path / "b.yaml").write_text("# five\nkey: six  # seven\n")
    assert words_in(tmp_path) == ["one", "two", "four", "five", "seven"]
