"""A public name is defined in one module of envs and optimize."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Each database backend defines the functions that optimize.database dispatches to.
BACKEND_INTERFACE = {"lock_schema", "lock_trials", "open_engine", "optuna_arguments", "server_time"}

# Alembic reads these names of each migration.
MIGRATIONS = Path("optimize", "results", "migrations", "versions")


def defined_names(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the names of functions, classes and constants that a module defines at its top level."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, ast.If | ast.Try):
            yield from defined_names(statement.body)


def duplicates(root: Path) -> dict[str, list[str]]:
    """Return the public names that several modules below a folder define, with the modules."""
    modules: dict[str, list[str]] = defaultdict(list)
    for package in ("envs", "optimize"):
        for path in sorted((root / package).rglob("*.py")):
            if path.relative_to(root).is_relative_to(MIGRATIONS):
                continue
            for name in set(defined_names(ast.parse(path.read_text(encoding="utf-8")).body)):
                if not name.startswith("_"):
                    modules[name].append(path.relative_to(root).as_posix())
    return {name: paths for name, paths in modules.items() if len(paths) > 1}


def test_a_public_name_is_defined_in_one_module() -> None:
    found = duplicates(ROOT)
    assert {name: found[name] for name in sorted(found.keys() - BACKEND_INTERFACE)} == {}


def test_every_listed_exception_is_still_a_duplicate() -> None:
    assert sorted(BACKEND_INTERFACE - duplicates(ROOT).keys()) == []


def test_functions_classes_and_constants_are_found(tmp_path: Path) -> None:
    for package, text in (
        ("envs", "A = 1\nB: int = 2\nclass C: ...\ndef d(): ...\n_E = 1\nif A:\n    F = 1"),
        ("optimize", "A, B = 1, 2\nC = d = F = 3\n_E = 2\nG = 1"),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text(text)
    assert sorted(duplicates(tmp_path)) == ["A", "B", "C", "F", "d"]
