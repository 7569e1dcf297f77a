"""A database with its vault of holdouts, and small studies that enter it."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from optimize.database import DatabaseSpec, Engine, open_engine
from optimize.evaluate.windows import WindowSpec
from optimize.results.creation import create_tables
from optimize.results.holdout import (
    holdouts_of,
)
from optimize.study.holdout import enter_holdout, with_kept_holdout
from optimize.study.spec import HoldoutSpec, StudySpec
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from tests.optimize.study.bundles import tiny_spec, write_prices
from tests.optimize.study.databases import Small

OWN = (date(2022, 2, 11), date(2022, 2, 18))  # the last 15 % of 48 days
REACHED = date(2022, 2, 13)
LATER = date(2022, 3, 2)  # the end of 60 days
ALL = (date(2022, 1, 1), date(2023, 1, 1))
NAMES = ["TINY_PRICES"]


@dataclasses.dataclass(frozen=True)
class Vault:
    folder: Path
    engine: Engine
    said: list[str]

    def spec(self, name: str, days: int = 48, *, opens: bool = False, **window: Any) -> StudySpec:
        prices = self.folder / f"days_{days}" / "tiny_prices.parquet"
        if not prices.exists():
            prices.parent.mkdir()
            write_prices(prices, days)
        keys = {"count": 2, "train_ratio": 2.0, "min_train_bars": 50, **window}
        spec = tiny_spec(self.folder, prices, name=name, window=WindowSpec(**keys))
        database = DatabaseSpec(url=str(self.engine.url.render_as_string(hide_password=False)))
        return dataclasses.replace(spec, database=database, holdout=HoldoutSpec(open=opens))

    def launch(self, spec: StudySpec, *, debug: bool = False) -> tuple[StudySpec, WindowedMarket]:
        """Go through the part of a launch that concerns the holdout."""
        held = with_kept_holdout(spec, build_windowed_market(spec, None), self.said.append)
        windowed = build_windowed_market(held, None)
        enter_holdout(held, self.engine, windowed, self.said.append, keep=not debug)
        return held, windowed

    def kept(self) -> list[tuple[date, date, bool]]:
        with self.engine.connect() as conn:
            return [
                (each.first, each.end, each.spent_at is not None) for each in holdouts_of(conn, NAMES, *ALL)
            ]


@pytest.fixture
def vault(tmp_path: Path, small: Small) -> Vault:
    engine = open_engine(small().database.url)
    create_tables(engine)
    return Vault(tmp_path, engine, [])
