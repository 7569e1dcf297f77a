"""Perturbed training: noise on the features that an agent observes, and columns that it must do without.

The episodes of a training are drawn ahead and laid end to end in a market of their own, each with noise and
missing columns of its own. Both engines train in that market as in any other: they see the same numbers, no
kernel knows of it, and the market that an agent is evaluated in stays as it is.
"""

from dataclasses import replace

import numpy as np

from envs.episodes import Episodes, SequentialEpisodes
from envs.types import IntArray, Market, array_specs
from optimize.agents.train_spec import TrainSpec

# Of the episodes drawn ahead; a longer training repeats them.
MOST_DRAWN_BARS, MOST_DRAWN_VALUES = 2**18, 2**25
_EPISODES_AT_ONCE = 8
_STREAM = 1  # of the random numbers of a training's seed


def perturb_episodes(
    market: Market,
    episodes: Episodes,
    training: TrainSpec,
    *,
    lookback: int,
    steps: int,
    num_envs: int,
    seed: int,
) -> tuple[Market, Episodes]:
    """Return the market and the episodes of a perturbed training of `steps` steps, unchanged without noise.

    Observations of an episode hold the features of its bars, and of lookback - 1 before, plus normal noise of
    deviation train.observation_noise; columns are 0 with a probability of train.column_dropout, for the whole
    episode.
    """
    if not (training.observation_noise or training.column_dropout):
        return market, episodes
    rng = np.random.default_rng([seed, _STREAM])
    width = market.n_assets * len(market.feature_names)
    most_bars = min(MOST_DRAWN_BARS, MOST_DRAWN_VALUES // width)
    first, last = _draw_ahead(episodes, rng, lookback, steps, num_envs, most_bars)
    length = last - first + lookback
    moved = np.cumsum(length) - length - (first - lookback + 1)  # from a bar to its place in the new market
    bars = np.arange(length.sum()) - np.repeat(moved, length)
    names = [name for name, each in array_specs(Market).items() if each.axes.startswith("T")]
    taken = {name: getattr(market, name)[bars] for name in names}
    features = taken["features"]
    if training.observation_noise:
        features += np.float32(training.observation_noise) * rng.standard_normal(features.shape, np.float32)
    if training.column_dropout:
        dropped = rng.random((len(first), *features.shape[1:])) < training.column_dropout
        features[np.repeat(dropped, length, axis=0)] = 0.0
    return replace(market, **taken), SequentialEpisodes(first + moved, last + moved)


def _draw_ahead(
    episodes: Episodes, rng: np.random.Generator, lookback: int, steps: int, num_envs: int, most_bars: int
) -> tuple[IntArray, IntArray]:
    """Return the first and last bars of episodes for `steps` steps and one more for each environment."""
    drawn = [episodes.draw(num_envs, rng)]
    taken, bars = 0, 0
    while taken < steps and bars < most_bars:
        first, last = episodes.draw(_EPISODES_AT_ONCE, rng)
        drawn.append((first, last))
        taken += int((last - first).sum())
        bars += int((last - first).sum()) + lookback * len(first)
    first, last = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return first, last
