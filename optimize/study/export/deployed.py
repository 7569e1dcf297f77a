"""A bundle that was verified and loaded: its deployable policy, ready for bars that it never saw."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from envs.types import Market
from optimize.agents.agent import Agent
from optimize.agents.files import SPEC
from optimize.data.bars import Bars
from optimize.data.dataset import load_bars
from optimize.data.frames import bars_of_frames
from optimize.data.scaling import Scaler, load_scaler, scale_market
from optimize.errors import BadInputError
from optimize.study.export.bundle import check_deployed, load_on, read_config, trust_bundle
from optimize.study.export.manifest import Manifest, verify_bundle
from optimize.study.export.spans import Spans, read_spans
from optimize.study.files import SCALER
from optimize.study.spec import StudySpec

if TYPE_CHECKING:
    from optimize.study.export.decide import Decision

Frames = pd.DataFrame | Mapping[str, pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Bundle:
    """An exported agent with all that it needs to act; no database is involved."""

    folder: Path
    manifest: Manifest
    spec: StudySpec
    spans: Spans
    agent: Agent
    scaler: Scaler

    def act(
        self,
        bars: Frames | None = None,
        *,
        holding: float | Mapping[str, float] | None = None,
        since: str | None = None,
    ) -> "Decision":
        """Return the next order from raw bars, at the close of the newest bar that has ended.

        bars: one frame, or one a symbol, with open, high, low, close and, where the features need them,
        volume and spread, indexed by the UTC start of each bar; None reads the data of the configuration.
        holding: exposure of each symbol now; None follows the policy from `since` on, flat at first.
        since: ISO date of the first session that is followed; None is the first after all data of the study.
        """
        from optimize.study.export.decide import decide

        source = load_bars(self.spec.data) if bars is None else bars_of_frames(bars, self.spec.data)
        return decide(self, source, holding=holding, since=since)

    def scaled(self, market: Market, first: int, end: int) -> Market:
        """Return the market with the features of rows [first, end) scaled; refuse other features."""
        self.scaler.check_names(market.feature_names, f"the bars given to {self.folder}")
        return scale_market(market, self.scaler, first, end)


def load_bundle(folder: str | Path, *, device: str = "cpu", trust: bool = False) -> Bundle:
    """Verify every file of a bundle and load its deployable policy; BadInputError names a wrong file.

    `trust` runs the code of the features that a bundle carries in its folder extensions/.
    """
    path = Path(folder)
    if trust:
        trust_bundle(path)
    manifest = verify_bundle(path)
    spec = read_config(path)
    last = last_window(manifest, path)
    check_deployed(path, manifest, last)
    agent = load_on(path, device)
    return Bundle(path, manifest, spec, read_spans(path), agent, load_scaler(path / SCALER))


def last_window(manifest: Manifest, folder: Path) -> int:
    """Return the index of the newest window of a bundle."""
    names = [name.split("/") for name in manifest.files if name.startswith("windows/")]
    windows = [int(parts[1]) for parts in names if parts[-1] == SPEC and parts[1].isdecimal()]
    if not windows:
        raise BadInputError(f"{folder} holds no window, so nothing proves its policy: export it again")
    return max(windows)


def with_bars(spec: StudySpec, source: Bars) -> StudySpec:
    """Return the spec of a bundle, refusing bars of other symbols than it was trained on."""
    wanted = list(spec.data.symbols)
    if len(wanted) != len(source.symbols):
        raise BadInputError(
            f"the bundle trades {len(wanted)} symbols ({', '.join(wanted)}), but the bars are of "
            f"{', '.join(source.symbols)}: give one file or frame for each of its symbols"
        )
    return dataclasses.replace(spec, data=dataclasses.replace(spec.data, symbols=wanted))
