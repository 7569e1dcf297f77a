"""Files of settings are read as OmegaConf reads them, by a faster parser."""

import io
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from optimize.cli.yaml_files import SETTINGS_LOADER, SettingsSource

VALUES = "1e-4 1e5 .5e3 1. .inf -.INF .nan_ 1_000 0x1F 12:30 1:30.5 2024-01-01 off yes ~ null '1e3' x"


def test_every_kind_of_value_is_read_as_omegaconf_reads_it() -> None:
    text = "\n".join(f"k{place}: {value}" for place, value in enumerate(VALUES.split()))
    text += "\nshared: &shared {a: [1, 2.5, b]}\nagain: *shared\nmore: {<<: *shared, c: 3}\n"
    assert OmegaConf.create(yaml.load(text, Loader=SETTINGS_LOADER)) == OmegaConf.load(io.StringIO(text))


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, b: 2}\n"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="found duplicate key"):
        yaml.load(text, Loader=SETTINGS_LOADER)


def test_an_empty_file_is_an_empty_configuration(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing is set here\n")
    source = SettingsSource("main", f"settings://{tmp_path}")
    assert source.load_config("empty").config == {}
