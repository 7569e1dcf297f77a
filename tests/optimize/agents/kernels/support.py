"""Models of both engines on the same market, and rollouts handed from one to the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import A2C
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.kernels.on_policy.training import CompiledOnPolicy
from optimize.agents.optimizers import decay_arguments
from optimize.agents.perturbation import perturb_episodes
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.agents.train_spec import TrainSpec
from tests.markets import make_market, random_walk

LOOKBACK = 3
COSTS = CostSpec(commission_bps=2.0, slippage_bps=1.0, fixed_fee=0.5)


def make_vec_env(
    market: Market | None = None,
    *,
    num_envs: int = 4,
    action: str = "continuous",
    assets: int = 1,
    episodes: Episodes | None = None,
    reward: RewardSpec | None = None,
    lookback: int = LOOKBACK,
    **rules: Any,
) -> SB3VecEnv:
    """Return environments that end their episodes after 40 steps by default."""
    if market is None:
        market = make_market(random_walk(400, assets=assets, volatility=0.02), features=5)
    return SB3VecEnv(
        TradingVectorEnv(
            market,
            episodes or RandomEpisodes(lookback - 1, market.n_bars - 1, 40),
            num_envs=num_envs,
            env=EnvSpec(action=action, **rules),
            cost=COSTS,
            reward=reward or RewardSpec(),
            lookback=lookback,
            seed=0,
        )
    )


def perturbed_world() -> dict[str, Any]:
    """Return the market and the episodes of a training with noise and missing columns."""
    market = make_market(random_walk(400, volatility=0.02), features=5)
    made, episodes = perturb_episodes(
        market,
        RandomEpisodes(LOOKBACK - 1, 399, 40),
        TrainSpec(observation_noise=0.5, column_dropout=0.3),
        lookback=LOOKBACK,
        steps=600,
        num_envs=4,
        seed=2,
    )
    return {"market": made, "episodes": episodes}


def make_model(cls: type[Any], vec_env: SB3VecEnv | None = None, **settings: Any) -> Any:
    """Return a small model without a log; pi, vf and relu shape its networks, decay is that of weights."""
    networks = {"pi": settings.pop("pi", [16, 16]), "vf": settings.pop("vf", [16, 16])}
    activation = nn.ReLU if settings.pop("relu", False) else nn.Tanh
    rms_prop = {"use_rms_prop": issubclass(cls, A2C), "rms_prop_eps": 1e-5} | settings
    decay = decay_arguments(settings.pop("decay", 0.0), rms_prop, on_policy=True)
    model = cls(
        "MlpPolicy",
        vec_env or make_vec_env(),
        device="cpu",
        seed=3,
        policy_kwargs={"net_arch": networks, "activation_fn": activation} | decay,
        **{"n_steps": 64, "learning_rate": 0.003} | settings,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def collect(model: OnPolicyAlgorithm) -> None:
    """Play one rollout."""
    _, callback = model._setup_learn(10**6, None, reset_num_timesteps=model.num_timesteps == 0)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def observations(model: CompiledOnPolicy) -> NDArray[np.float32]:
    """Return the observations of the last rollout's samples, (Q, D)."""
    assert model._collector is not None
    env, samples = model._collector.env_state, model._collector.samples
    window = env.layout.weight
    flat = env.features.reshape(-1)
    stop = (samples.bar + 1) * env.features.shape[1]
    windows = np.stack([flat[end - window : end] for end in stop])
    return np.concatenate([windows, samples.account], axis=1)


def hand_over(model: CompiledOnPolicy, stock: OnPolicyAlgorithm) -> None:
    """Put the last rollout of a compiled model into the buffer of a stock one."""
    assert model._collector is not None
    samples, buffer = model._collector.samples, stock.rollout_buffer
    n_envs, n_steps = model._collector.rewards.reward.shape

    def steps_first(array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(n_envs, n_steps, *array.shape[1:]).swapaxes(0, 1).copy()

    buffer.reset()
    buffer.observations = steps_first(observations(model))
    buffer.actions = steps_first(samples.action).astype(buffer.actions.dtype)
    for name, array in {
        "values": samples.value,
        "log_probs": samples.log_prob,
        "advantages": samples.advantage,
        "returns": samples.target,
    }.items():
        setattr(buffer, name, steps_first(array))
    buffer.full = True


def furthest(one: OnPolicyAlgorithm, other: OnPolicyAlgorithm) -> float:
    """Return the largest difference between the parameters of two models."""
    pairs = zip(one.policy.parameters(), other.policy.parameters(), strict=True)
    return max(float((left - right).detach().abs().max()) for left, right in pairs)
