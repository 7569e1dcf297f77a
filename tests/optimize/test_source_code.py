"""Digests of code ignore comments, docstrings and formatting, and notice every other change."""

import ast
from pathlib import Path

import pytest

from optimize.source_code import code_digest, file_digest, package_digest, packages_in

TEXT = '''"""A module."""

RATE = 0.5  # of a day


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
'''


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace('"""Return the mean."""', '"""Return another sentence."""'),
        TEXT.replace('    """Return the mean."""\n', ""),
        TEXT.replace("  # of a day", ""),
        TEXT.replace("sum(values) / len(values)", "(\n        sum(values)\n        / len(values)\n    )"),
        TEXT.replace("0.5", "0.50"),
        TEXT + '\n"""A text that explains what stands above it."""\n',
    ],
)
def test_layout_comments_and_docstrings_do_not_count(same: str) -> None:
    assert same != TEXT
    assert code_digest(same) == code_digest(TEXT)


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace("0.5", "0.25"),
        TEXT.replace("0.5", "True"),
        TEXT.replace("sum(values) /", "max(values) /"),
        TEXT.replace("/ len", "// len"),
        TEXT.replace("mean(", "average("),
        TEXT.replace("0.5", "'0.5'"),
    ],
)
def test_whatever_may_change_a_result_counts(other: str) -> None:
    assert other != TEXT
    assert code_digest(other) != code_digest(TEXT)


def test_a_field_that_another_python_adds_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest(TEXT)
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "type_params"))
    monkeypatch.setattr(ast.FunctionDef, "type_params", [], raising=False)
    assert code_digest(TEXT) == before


def test_a_package_counts_its_own_modules_and_a_file_is_read_again_once_written(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / "__init__.py").write_text("")
        (folder / "module.py").write_text(TEXT)
    outer, within = package_digest(tmp_path), package_digest(inner)
    assert dict(packages_in(tmp_path, "made")) == {"made": tmp_path, "made.inner": inner}
    before = file_digest(inner / "module.py")
    (inner / "module.py").write_text(TEXT.replace("0.5", "0.75"))
    assert file_digest(inner / "module.py") != before
    assert package_digest(inner) != within
    assert package_digest(tmp_path) == outer
