"""Noise and missing columns: new in every episode, alike in both engines, and in training only."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes, SequentialEpisodes, SessionEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.agents import perturbation
from optimize.agents.agent import load_agent
from optimize.agents.perturbation import perturb_episodes
from optimize.agents.registry import ALGORITHMS
from optimize.agents.train_spec import TrainSpec
from optimize.evaluate.rollout import rollout
from tests.markets import make_market, random_walk
from tests.optimize.agents.support import LOOKBACK, noise_market, same_weights, small_spec, train_small
from tests.tiers import mostly_slow

BOTH = TrainSpec(observation_noise=0.5, column_dropout=0.3)


def _market(features: int = 6, assets: int = 1) -> Market:
    return make_market(random_walk(400, assets=assets), features=features)


def _perturb(market: Market, training: TrainSpec, episodes: Episodes | None = None, **keys: Any) -> Any:
    drawn = episodes or RandomEpisodes(LOOKBACK - 1, market.n_bars - 1, 40)
    settings = {"lookback": LOOKBACK, "steps": 4000, "num_envs": 4, "seed": 7} | keys
    return perturb_episodes(market, drawn, training, **settings)


def _parts(market: Market, episodes: Any) -> list[slice]:
    """Return the bars of each episode, with those of its first lookback."""
    assert isinstance(episodes, SequentialEpisodes)
    return [
        slice(first - LOOKBACK + 1, last + 1)
        for first, last in zip(episodes._firsts, episodes._lasts, strict=True)
    ]


def _origin(market: Market, made: Market, part: slice) -> NDArray[np.float32]:
    """Return the features that the bars of an episode had."""
    bars = np.searchsorted(market.timestamp, made.timestamp[part])
    np.testing.assert_array_equal(market.close[bars], made.close[part])
    np.testing.assert_array_equal(np.diff(bars), 1)
    return market.features[bars]


def test_without_noise_the_training_is_what_it_was() -> None:
    market, episodes = _market(), RandomEpisodes(3, 399, 40)
    assert _perturb(market, TrainSpec(), episodes) == (market, episodes)


def test_noise_is_new_in_every_episode_and_has_its_deviation() -> None:
    market = _market()
    before = market.features.copy()
    made, episodes = _perturb(market, TrainSpec(observation_noise=0.5))
    parts = _parts(made, episodes)
    assert sum(part.stop - part.start - LOOKBACK for part in parts) >= 4000
    noise = [made.features[part] - _origin(market, made, part) for part in parts]
    joined = np.concatenate(noise)
    assert abs(joined.mean()) < 0.02
    assert joined.std() == pytest.approx(0.5, abs=0.01)
    seen = {each.tobytes() for each in noise}
    assert len(seen) == len(parts) >= 100
    np.testing.assert_array_equal(market.features, before)


@pytest.mark.parametrize("sessions", [False, True])
def test_columns_are_missing_for_whole_episodes(sessions: bool) -> None:
    market = _market(assets=2)
    spans = SessionEpisodes(market.session, LOOKBACK, 399) if sessions else None  # the last one is short
    made, episodes = _perturb(market, TrainSpec(column_dropout=0.3), spans)
    parts = _parts(made, episodes)
    masks = []
    for part in parts:
        origin, found = _origin(market, made, part), made.features[part]
        missing = (found == 0).all(axis=0)
        np.testing.assert_array_equal(found[:, ~missing], origin[:, ~missing])
        masks.append(missing)
    assert np.mean(masks) == pytest.approx(0.3, abs=0.03)
    assert len({mask.tobytes() for mask in masks}) > 50


def test_the_same_seed_gives_the_same_numbers() -> None:
    market = _market()
    one, again, other = (_perturb(market, BOTH, seed=seed)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.features, again.features)
    assert one.features.shape != other.features.shape or (one.features != other.features).any()


def test_a_training_longer_than_the_memory_repeats_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perturbation, "MOST_DRAWN_BARS", 500)
    made, episodes = _perturb(_market(), BOTH, steps=10**9)
    assert made.n_bars < 1500
    first = episodes.draw(len(episodes._firsts), np.random.default_rng(0))
    np.testing.assert_array_equal(first, episodes.draw(len(first[0]), np.random.default_rng(0)))


def test_sessions_stay_whole() -> None:
    market = _market()
    spans = SessionEpisodes(market.session, LOOKBACK, 399)
    made, episodes = _perturb(market, BOTH, spans)
    for part in _parts(made, episodes):
        assert len(set(made.session[part.start + LOOKBACK - 1 : part.stop])) == 1


@pytest.mark.parametrize("engine", ["compiled", "stock"])
@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_a_training_sees_them_and_an_evaluation_does_not(name: str, engine: str, tmp_path: Any) -> None:
    market, spec = noise_market(), small_spec(name, engine=engine)
    before = market.features.copy()
    plain, perturbed, again = (
        train_small(spec, market, training=training) for training in (TrainSpec(), BOTH, BOTH)
    )
    assert same_weights(perturbed, again)
    assert not same_weights(plain, perturbed)
    np.testing.assert_array_equal(market.features, before)
    perturbed.save(tmp_path)
    env = EnvSpec(action="discrete" if name == "dqn" else "continuous")
    terms: dict[str, Any] = {"env": env, "cost": CostSpec(), "reward": RewardSpec(), "lookback": LOOKBACK}
    span = [(LOOKBACK, market.n_bars - 1)]
    fused, loaded = (rollout(agent, market, span, **terms)[0] for agent in (perturbed, load_agent(tmp_path)))
    np.testing.assert_array_equal(fused.equity, loaded.equity)
    stepped = rollout(replace(perturbed, fused=False), market, span, **terms)[0]
    np.testing.assert_allclose(fused.equity, stepped.equity, atol=1e-6)
