"""The settings files of the package, read once a process: a configuration is composed of thirty of them."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hydra.plugins.config_source import ConfigResult

from optimize.cli.yaml_files import SettingsSource, conf_folder


@pytest.fixture(autouse=True, scope="session")
def settings_read_once() -> Iterator[None]:
    """Read each file of conf/ once for each set of typed keys; files of a test are read each time."""
    read = SettingsSource.load_config
    shipped, kept = str(conf_folder()), dict[tuple[Any, ...], bytes]()

    def read_once(self: SettingsSource, config_path: str) -> ConfigResult:
        if self.path != shipped:
            return read(self, config_path)
        key = (config_path, self.provider, self.booleans, self.texts, self.whole_numbers)
        if key not in kept:
            kept[key] = pickle.dumps(read(self, config_path))
        result: ConfigResult = pickle.loads(kept[key])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SettingsSource, "load_config", read_once)
        yield
