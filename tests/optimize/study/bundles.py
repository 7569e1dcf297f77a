"""A tiny study on made-up prices, run through the real engine, and its exported bundles."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from optimize.agents.spec import AgentSpec
from optimize.bundles.export import Exported, export_best
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.database import DatabaseSpec
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.hashing import hash_file
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.spec import StudySpec, resolve
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.walkforward.markets import build_windowed_market


@dataclasses.dataclass(frozen=True, eq=False)
class Exports:
    context: StudyContext
    prices: Path
    exported: list[Exported]

    @property
    def output_dir(self) -> str:
        return self.context.spec.output_dir


def write_prices(path: Path, days: int = 48, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, days * 24)))
    opens = np.concatenate([[100.0], close[:-1]])
    stamp = pd.date_range("2022-01-01", periods=days * 24, freq="h", tz="UTC")
    prices = {"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close)}
    pd.DataFrame({"timestamp": stamp, **prices, "close": close, "volume": 1.0}).to_parquet(path)
    return path


def tiny_spec(folder: Path, prices: Path, **changes: object) -> StudySpec:
    score = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0, repeats=2)
    ppo = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    spec = StudySpec(
        name="tiny",
        n_trials=3,
        output_dir=str(folder / "studies"),
        data=DataSpec(provider="file", path=str(prices)),
        feature=FeatureSpec(lookback=2, indicators=["returns", "range"]),
        agent=AgentSpec(total_timesteps=64, n_envs=2, net="tiny", hyperparameters=ppo),
        space={"agent": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}},
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=50),
        score=score,
        database=DatabaseSpec(url=f"sqlite:///{folder / 'walkforge.db'}"),
    )
    return resolve(dataclasses.replace(spec, **changes))  # type: ignore[arg-type]  # changes are passed through


def run_all(spec: StudySpec) -> StudyContext:
    context = open_study(spec)
    windowed = build_windowed_market(spec, None)
    enroll(context, windowed)
    while isinstance(claimed := claim(context, 0, lambda _: windowed), Claim):
        run = perform(context, claimed, stopping=lambda: False)
        assert run.state != "FAIL", run.traceback
    return context


def export_tiny(folder: Path, **changes: object) -> Exports:
    """Run the tiny study to its end and export its two best trials."""
    prices = write_prices(folder / "tiny_prices.parquet")
    context = run_all(tiny_spec(folder, prices, **changes))
    return Exports(context, prices, export_best(context.engine, context.spec.output_dir, "tiny", 2))


def stamps(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, hash_file(path))
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
