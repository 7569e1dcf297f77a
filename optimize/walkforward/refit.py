"""Train a deployable policy on every session before the holdout, with the seed of the median repeat."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from optimize.agents.sb3.train import train
from optimize.errors import BadInputError
from optimize.evaluate.summary import WindowResult
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.representation import fit_representation
from optimize.walkforward.run import WindowModel, seed_of
from optimize.walkforward.spec import RunSpec, agent_of_window
from optimize.walkforward.validation import split_train_span, validation_of
from optimize.walkforward.versions import engine_again


@dataclass(frozen=True)
class RefitPlan:
    """The span and the seed of a refit; the end is exclusive."""

    trained_until: date
    repeat: int  # of the lower median Sharpe ratio, which stands for the trial
    seed: int
    bars: tuple[int, int]  # first and last of the training, the last one purged


def plan_refit(
    windowed: WindowedMarket,
    history: int,
    measured: Sequence[Sequence[WindowResult]],
    entropy: Sequence[int],
) -> RefitPlan:
    """Plan a refit up to the holdout, or over all sessions without one; measured: [repeat][window].

    The seed is that of the window after the last one, of the median repeat.
    """
    market, last, until = windowed.market, windowed.windows[-1], refit_end(windowed)
    sessions = int(np.searchsorted(market.session_date, np.datetime64(until)))
    end = int(np.searchsorted(market.session, sessions))
    repeat = _median_repeat(measured)
    bars = (history - 1, end - 1 - last.purge_bars)
    if bars[0] >= bars[1]:
        raise BadInputError(f"refit=true: no bar before {until} is left to train on: export without it")
    return RefitPlan(until, repeat, seed_of(entropy, last.index + 1, repeat), bars)


def refit_end(windowed: WindowedMarket) -> date:
    """Return the first session of the holdout, or the day after the last session without one."""
    newest: date = windowed.market.session_date[-1].item()
    held = windowed.plan.holdout
    return newest + timedelta(days=1) if held is None else held[0]


def _median_repeat(measured: Sequence[Sequence[WindowResult]]) -> int:
    """Return the repeat of the lower median Sharpe ratio over its joined windows."""
    ratios = []
    for row in measured:
        returns = np.concatenate([window.returns for window in row])
        deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
        ratios.append(float(returns.mean()) / deviation if deviation > 0 else -math.inf)
    return int(np.argsort(ratios, kind="stable")[(len(ratios) - 1) // 2])


def refit(
    spec: RunSpec, windowed: WindowedMarket, plan: RefitPlan, trained_with: Mapping[str, str]
) -> WindowModel:
    """Fit the representation and train the agent on the planned span, on the engine of the trial."""
    first, last = plan.bars
    lookback = spec.feature.lookback
    representation = fit_representation(
        windowed.market, first, last, spec.feature, at_open=spec.env.fill == "open"
    )
    market = representation.observe(windowed.market, first - spec.feature.history + 1, last + 1)
    split = split_train_span(spec, market, plan.bars, windowed.windows[-1].purge_bars)
    agent = train(
        agent_of_window(spec, split.learned[1] - split.learned[0] + 1),
        market,
        split.learned,
        env=spec.env,
        cost=spec.cost,
        reward=spec.reward,
        lookback=lookback,
        seed=plan.seed,
        training=spec.train,
        engine=engine_again(spec.agent, trained_with),
        validate=validation_of(spec, market, split),
    )
    return WindowModel(agent, representation)
