from pathlib import Path

import pytest

from envs.fields import keys_of
from optimize.cli.comments import explain_file
from optimize.data.features.spec import FEATURE_KEYS
from optimize.schemas.register import SCHEMAS
from optimize.study.spec import StudySpec
from tests.conftest import REPOSITORY

CONF = REPOSITORY / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
WITHOUT_FILE = ("data.check", "space")  # set by a person, and a folder of files
DIFFERENCES = ("space", "experiment", "debug", "gate")  # their files set keys of other files or verbs


def group_of(path: Path) -> str:
    return "" if path.parent == CONF else path.parent.name


def leaves_of(paths: tuple[str, ...]) -> list[str]:
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def explained_anywhere() -> set[str]:
    return {key for path in FILES for key in explain_file(path, group_of(path)).keys}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_of_every_file_is_explained(path: Path) -> None:
    group = group_of(path)
    explained = explain_file(path, group)
    leaves = leaves_of(explained.paths)
    if group not in DIFFERENCES:
        assert [leaf for leaf in leaves if not explained.keys.get(leaf)] == []
        return
    known = explained_anywhere()
    for leaf in leaves:
        key = leaf.removeprefix("space.")
        parents = {key.rsplit(".", up)[0] for up in range(key.count(".") + 1)}
        assert parents & known, f"{leaf}: no file explains this key"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_begins_with_its_purpose(path: Path) -> None:
    assert explain_file(path, group_of(path)).head


def test_a_comment_above_a_key_of_the_first_level_explains_it_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("# Head.\na: 1\n# About b,\n# in two lines.\nb: 2\n", encoding="utf-8")
    explained = explain_file(path, "g")
    assert explained.head == "Head."
    assert explained.keys == {"g.b": "About b, in two lines."}


def test_keys_of_a_shared_file_are_keys_of_the_files_that_rest_on_it(tmp_path: Path) -> None:
    (tmp_path / "_base.yaml").write_text("# Base.\na: 1  # about a\n", encoding="utf-8")
    path = tmp_path / "one.yaml"
    path.write_text("# One.\ndefaults: [_base, _self_]\nb: 2  # about b\n", encoding="utf-8")
    explained = explain_file(path, "g")
    assert explained.paths == ("g.a", "g.b")
    assert explained.keys == {"g.a": "about a", "g.b": "about b"}


def test_the_keys_of_the_files_are_those_of_the_specs() -> None:
    declared = keys_of(StudySpec)
    declared = {
        path: key for path, key in declared.items() if path.removeprefix("feature.") not in FEATURE_KEYS
    }
    mappings = tuple(f"{path}." for path, key in declared.items() if isinstance(key.default, dict))
    groups = [path for path in FILES if path.parent != CONF and group_of(path) not in DIFFERENCES]
    written = {leaf for path in groups for leaf in leaves_of(explain_file(path, group_of(path)).paths)}
    of_verbs = {
        leaf for path in FILES if path.parent == CONF for leaf in leaves_of(explain_file(path, "").paths)
    }
    unknown = {key for key in written - declared.keys() if not key.startswith(mappings)}
    entries = {mapping.rstrip(".") for mapping in mappings}
    unwritten = declared.keys() - written - of_verbs - set(WITHOUT_FILE) - entries
    assert unknown == set()
    assert {key for key in unwritten if not key.startswith("agent.")} == set()
    assert all(path.stem in SCHEMAS or path.stem.startswith("_") for path in FILES if path.parent == CONF)
