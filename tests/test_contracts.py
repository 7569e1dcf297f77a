"""The import contracts of pyproject.toml name every room that they do not allow."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {  # rooms that may import a library
    "hydra": {"optimize.cli", "optimize.schemas", "optimize.__main__"},
    "torch": {"optimize.agents"},
    "sqlalchemy": {"optimize.database", "optimize.results", "optimize.search"},
    "optuna": {"optimize.search", "optimize.study"},
    "matplotlib": {"optimize.report"},
}
STORAGE = "optimize.search.storage"  # the one module of optimize.search that may import SQLAlchemy


def modules_in(package: str) -> set[str]:
    """Return the modules and packages directly in a package."""
    folder = ROOT / package.replace(".", "/")
    names = {path.stem for path in folder.glob("*.py")}
    names |= {path.parent.name for path in folder.glob("*/__init__.py")}
    return {f"{package}.{name}" for name in names - {"__init__"}}


def contracts(kind: str) -> list[dict[str, Any]]:
    """Return the import contracts of a kind."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == kind]


def forbidden() -> dict[str, set[str]]:
    """Return the rooms of each contract that forbids a library."""
    return {each["forbidden_modules"][0]: set(each["source_modules"]) for each in contracts("forbidden")}


def ordered(package: str) -> set[str]:
    """Return the modules and packages of a package that a contract of layers orders."""
    rows = [row for each in contracts("layers") for row in each["layers"]]
    listed = {name.strip() for row in rows for name in row.split("|")}
    return {name for name in listed if name.rpartition(".")[0] == package}


@pytest.mark.parametrize("library", ALLOWED)
def test_a_library_is_forbidden_in_every_room_that_may_not_import_it(library: str) -> None:
    rooms = {"envs"} | (modules_in("optimize") - ALLOWED[library])
    if library == "sqlalchemy":
        rooms |= modules_in("optimize.search") - {STORAGE}
    assert forbidden()[library] == rooms


def test_every_contract_on_a_library_is_listed() -> None:
    assert set(forbidden()) == set(ALLOWED)


@pytest.mark.parametrize("package", ["optimize", "optimize.study"])
def test_every_module_of_a_package_has_its_layer(package: str) -> None:
    assert ordered(package) == modules_in(package)


def test_study_holds_rooms_and_at_most_nine_modules_beside_them() -> None:
    modules = {path.stem for path in (ROOT / "optimize" / "study").glob("*.py")} - {"__init__"}
    assert len(modules) <= 9
