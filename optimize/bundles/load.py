"""Load a bundle: verify its files, then load its deployable policy, which acts on new bars."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from optimize.agents.artifacts import SPEC
from optimize.bundles.act import Decision, DeployedAgent, decide
from optimize.bundles.manifest import Manifest, read_json, verify_bundle
from optimize.bundles.replay import CONFIG, check_deployed, load_on_device, read_config, trust_bundle
from optimize.bundles.spans import METRICS_FILE, read_spans
from optimize.data.frames import bars_of_frames
from optimize.data.market import load_bars
from optimize.errors import BadInputError
from optimize.walkforward.files import SCALER
from optimize.walkforward.representation import read_representation

Frames = pd.DataFrame | Mapping[str, pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Bundle(DeployedAgent):
    """An exported agent, complete without a database."""

    manifest: Manifest

    @property
    def seed(self) -> int:
        """Return the seed of the study, which a bundle of version 0.1 has only in its configuration."""
        entropy = read_json(self.folder / METRICS_FILE).get("entropy")
        return int(entropy[0] if entropy else read_json(self.folder / CONFIG).get("seed", 0))

    def act(
        self,
        bars: Frames | None = None,
        *,
        holding: float | Mapping[str, float] | None = None,
        since: str | None = None,
        other_assets: bool = False,
    ) -> Decision:
        """Return the next order from raw bars, at the close of the newest bar that has ended.

        bars: one frame, or one a symbol, with open, high, low, close and, where the features need them,
        volume and spread, indexed by the UTC start of each bar; None reads the data of the configuration.
        holding: current exposure of each symbol; None simulates the policy from `since` on, flat at first.
        since: ISO date of the first simulated session; None is the first after all data of the study.
        other_assets: whether bars with prices that are not those of the bundle's assets are allowed.
        """
        source = load_bars(self.spec.data) if bars is None else bars_of_frames(bars, self.spec.data)
        return decide(self, source, holding=holding, since=since, other_assets=other_assets)


def load_bundle(folder: str | Path, *, device: str = "cpu", trust: bool = False) -> Bundle:
    """Verify every file of a bundle and load its deployable policy; raise BadInputError for a wrong file.

    `trust` allows running the code of the features in the bundle's folder extensions/.
    """
    path = Path(folder)
    if trust:
        trust_bundle(path)
    manifest = verify_bundle(path)
    spec = read_config(path)
    last = last_window(manifest, path)
    check_deployed(path, manifest, last)
    agent = load_on_device(path, device)
    return Bundle(path, spec, read_spans(path), agent, read_representation(path / SCALER), manifest)


def last_window(manifest: Manifest, folder: Path) -> int:
    """Return the index of the newest window of a bundle."""
    names = [name.split("/") for name in manifest.files if name.startswith("windows/")]
    windows = [int(parts[1]) for parts in names if parts[-1] == SPEC and parts[1].isdecimal()]
    if not windows:
        raise BadInputError(f"{folder} holds no window, so nothing proves its policy: export it again")
    return max(windows)
