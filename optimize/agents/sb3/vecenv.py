"""Adapter from the vector environment to stable-baselines3's VecEnv."""

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from envs.vector import TradingVectorEnv
from optimize.errors import NumericError, WalkforgeError


class SB3VecEnv(VecEnv):
    """N environments stepped in one call; a dict is made only for an environment whose episode ended."""

    def __init__(self, env: TradingVectorEnv) -> None:
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._seed: int | None = None
        self._actions: NDArray[Any] = np.empty(0)
        self._nothing: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self.reward_sum = np.zeros(self.num_envs)  # of the episodes under way, as the next
        self.length = np.zeros(self.num_envs, dtype=np.int64)
        self._started_s = time.perf_counter()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Use this seed for all environments at the next reset; they share one generator."""
        self._seed = seed
        return [seed] * self.num_envs

    def reset(self) -> NDArray[np.float32]:
        """Start every environment anew and return observations (N, D)."""
        observation, _ = self.env.reset(seed=self._seed)
        self._seed = None
        self.reward_sum[:] = 0.0
        self.length[:] = 0
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for step_wait."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; raise NumericError if an action, an equity or a reward is not finite."""
        try:
            observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        except WalkforgeError as error:
            # Only a policy that has diverged sends an action that is not allowed.
            raise NumericError(f"training broke the environment: {error}") from error
        if not np.isfinite(reward).all():
            raise NumericError("training broke the environment: a reward is NaN or infinite")
        self.reward_sum += reward
        self.length += 1
        done = terminated | truncated
        reports = self._reports(done, terminated, infos) if done.any() else self._nothing
        return observation, reward.astype(np.float32), done, reports

    def _reports(
        self, done: NDArray[np.bool_], terminated: NDArray[np.bool_], infos: dict[str, Any]
    ) -> list[dict[str, Any]]:
        reports = list(self._nothing)
        for index, episode in zip(np.flatnonzero(done), self.end_episodes(done), strict=True):
            reports[index] = {
                "terminal_observation": infos["final_obs"][index],
                "TimeLimit.truncated": bool(not terminated[index]),
                "episode": episode,
            }
        return reports

    def end_episodes(self, done: NDArray[np.bool_]) -> list[dict[str, float]]:
        """Return ended episodes in the format of SB3's Monitor: r(eward), l(ength), t(ime in seconds)."""
        elapsed_s = round(time.perf_counter() - self._started_s, 6)
        ended = [
            {"r": float(self.reward_sum[index]), "l": int(self.length[index]), "t": elapsed_s}
            for index in np.flatnonzero(done)
        ]
        self.reward_sum[done] = 0.0
        self.length[done] = 0
        return ended

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the vector environment, once for each index."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute for all; a batch has no attributes of single environments."""
        self._require_all(indices, f"set {attr_name}")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the method once for the whole batch and return its result for each environment."""
        self._require_all(indices, f"call {method_name}")
        return [getattr(self.env, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return True for Monitor, since this class reports the same episode statistics."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def _require_all(self, indices: VecEnvIndices, deed: str) -> None:
        if indices is not None and set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise IndexError(
                f"cannot {deed} for environments {indices}: all environments of a batch change together"
            )
