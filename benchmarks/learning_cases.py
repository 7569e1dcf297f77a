"""What the learning benchmark trains: algorithms, markets, how many windows, steps and seeds."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from envs.costs import CostSpec
from envs.spec import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.study.spec import StudySpec, resolve

REAL = "eurusd_1h_oanda_mid_2007_2018.parquet"
FX = CostSpec(commission_bps=0.2, slippage_bps=0.4, borrow_rate=0.03, short_rate=0.01)
PPO = {"learning_rate": 1e-3, "n_steps": 256, "batch_size": 256, "n_epochs": 10, "gamma": 0.9}
LEARNABLE = {"learning_rate": 3e-3, "gamma": 0.5}  # where a bar foretells the next one and no more
SAC = {"learning_rate": 1e-3, "learning_starts": 500, "gamma": 0.9}


@dataclass(frozen=True)
class Case:
    """One algorithm on one market."""

    algorithm: str
    market: str
    windows: int
    seeds: int
    steps: int = 20_480

    @property
    def key(self) -> str:
        """Return the name in the results."""
        return f"{self.algorithm}_{self.market}"


FULL = (
    # Set anew after a look at the first seven pairs, differences included, from 10, 36 and 40 seeds of PPO
    # by the deviations then seen, and from 5 to 12 of SAC on real data after its five; the rule for the
    # margin was not touched.
    Case("ppo", "real", windows=4, seeds=40),
    Case("sac", "real", windows=1, seeds=12, steps=20_000),
    Case("sac", "synthetic", windows=1, seeds=5, steps=20_000),
    Case("ppo", "synthetic", windows=1, seeds=60, steps=40_960),
    Case("ppo", "embedded", windows=1, seeds=20),
)
QUICK = (
    Case("ppo", "synthetic", windows=2, seeds=3, steps=8192),
    Case("sac", "synthetic", windows=1, seeds=3, steps=1500),
)
TINY = tuple(replace(case, windows=1, seeds=2, steps=300) for case in QUICK)


def data_of(market: str) -> DataSpec | None:
    """Return the bars of a market, None where this machine has none.

    On the synthetic one every other bar goes the way of the bar before it.
    """
    if market == "synthetic":
        made = SyntheticSpec("known_timeframe", bars=12_000, period=2)
        return DataSpec(provider="synthetic", synthetic=made)
    if market == "embedded":
        return DataSpec()
    path = Path(os.environ.get("WALKFORGE_MARKET_DATA", "")) / REAL
    return DataSpec(provider="file", path=str(path)) if path.is_file() else None


def spec_of(case: Case, data: DataSpec) -> StudySpec:
    """Return what both engines are trained and judged by."""
    ppo = case.algorithm == "ppo"
    settings = PPO | (LEARNABLE if case.market == "synthetic" else {})
    agent = AgentSpec(
        name=case.algorithm,
        total_timesteps=case.steps,
        n_envs=8 if ppo else 1,
        activation="tanh" if ppo else "relu",
        hyperparameters=settings if ppo else SAC,
    )
    spec = StudySpec(
        name="learning",
        data=data,
        feature=FeatureSpec(lookback=2),
        env=EnvSpec(episode_bars=128),
        cost=FX,
        agent=agent,
        window=WindowSpec(count=case.windows),
        score=ScoreSpec(min_trades=0, min_volatility=0.0),
    )
    return resolve(spec)
