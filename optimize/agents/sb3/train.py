"""Train one agent on one span of a market."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes, SessionEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.agent import Agent
from optimize.agents.engines import FUSED, Engine, local_engine
from optimize.agents.kernels.off_policy.training import CompiledOffPolicy
from optimize.agents.kernels.on_policy.training import CompiledOnPolicy
from optimize.agents.perturbation import perturb_episodes
from optimize.agents.registry import action_of
from optimize.agents.sb3.build import build
from optimize.agents.sb3.callbacks import ProgressReport, TrainingMonitor, check_finite
from optimize.agents.sb3.checkpoints import CheckpointKeeper
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.agents.spec import AgentSpec, check_agent
from optimize.agents.train_spec import TrainSpec
from optimize.errors import NumericError

_LOG = logging.getLogger(__name__)
_REPORTS = 20  # per training, but for PPO, whose rollouts alone are long enough to report each


def train(
    spec: AgentSpec,
    market: Market,
    span: tuple[int, int],
    *,
    env: EnvSpec,
    cost: CostSpec,
    reward: RewardSpec,
    lookback: int,
    seed: int,
    training: TrainSpec | None = None,
    engine: Engine | None = None,
    report: ProgressReport | None = None,
    validate: Callable[[Agent], float] | None = None,
) -> Agent:
    """Train on the bars span[0]..span[1], both included, whose features are already scaled.

    `report(step, value)` gets the mean episode return after each rollout (NaN while no episode has ended)
    and stops the training by returning True. The same seed (0..2**32 - 1) gives the same weights, bit for
    bit, on one CPU thread. `training` decides which checkpoint is kept, and `validate(agent)` is the Sharpe
    ratio on the validation tail by which it is chosen. Without `engine` it is that of `local_engine`. Raise
    NumericError if a feature, a reward, a loss or a weight goes bad.
    """
    check_agent(spec)
    _check_features(market, span, lookback)
    env, training = replace(env, action=action_of(spec.name, env.action)), training or TrainSpec()
    played, episodes = perturb_episodes(
        market,
        _episodes(env, market, span),
        training,
        lookback=lookback,
        steps=spec.total_timesteps,
        num_envs=spec.n_envs,
        seed=seed,
    )
    vector_env = TradingVectorEnv(
        played,
        episodes,
        num_envs=spec.n_envs,
        env=env,
        cost=cost,
        reward=reward,
        lookback=lookback,
        seed=seed,
    )
    vec_env = SB3VecEnv(vector_env)
    engine = engine or local_engine(spec)
    _LOG.info("agent.engine=%s: %s trains %s, for %s", spec.engine, engine.name, spec.name, engine.reason)
    spec = replace(spec, engine=engine.name)
    model = build(spec, vec_env, engine, seed)
    interval = 1 if isinstance(model, PPO) else max(1, spec.total_timesteps // _REPORTS)
    monitor, fused = TrainingMonitor(report, interval), engine.evaluation == FUSED
    keeper = _keeper(spec, training, validate, fused)
    model.learn(spec.total_timesteps, callback=monitor if keeper is None else CallbackList([monitor, keeper]))
    if keeper is not None:
        keeper.keep()
    check_finite(model)
    share = vector_env.reward_active_share if reward.reward.state else None
    _release(model)
    vec_env.close()
    return Agent(
        spec,
        model.policy,
        model,
        reward_active_share=share,
        fused=fused,
        trained_steps=model.num_timesteps if keeper is None else keeper.stopped_at or model.num_timesteps,
        sharpe_validation=None if keeper is None else keeper.sharpe,
    )


def _keeper(
    spec: AgentSpec, schedule: TrainSpec, validate: Callable[[Agent], float] | None, fused: bool
) -> CheckpointKeeper | None:
    """Return the callback that keeps checkpoints, None where the last weights are kept as they are."""
    if validate is None and schedule.average == 1:
        return None

    def play(policy: BasePolicy) -> float:
        assert validate is not None
        return validate(Agent(spec, policy, fused=fused))

    return CheckpointKeeper(schedule, spec.total_timesteps, None if validate is None else play)


def _episodes(env: EnvSpec, market: Market, span: tuple[int, int]) -> Episodes:
    """Return the random training episodes of a span: whole sessions, or runs of bars."""
    if env.episode == "session":
        return SessionEpisodes(market.session, *span)
    return RandomEpisodes(*span, bars=env.episode_bars)


def _check_features(market: Market, span: tuple[int, int], lookback: int) -> None:
    """Raise NumericError if any feature that training can observe is NaN or infinite."""
    first = max(0, span[0] - lookback + 1)
    seen = market.features[first : span[1] + 1]
    if not np.isfinite(seen).all():
        bar, _, feature = np.argwhere(~np.isfinite(seen))[0]
        name = market.feature_names[feature]
        raise NumericError(f"feature {name} is NaN or infinite at bar {first + bar} of the train span")


def _release(model: BaseAlgorithm) -> None:
    """Drop the market and the replay, which a trained model does not need."""
    model.env = None
    if isinstance(model, OffPolicyAlgorithm):
        model.replay_buffer = None
    if isinstance(model, OnPolicyAlgorithm):
        del model.rollout_buffer
    if isinstance(model, (CompiledOnPolicy, CompiledOffPolicy)):
        model.release()
