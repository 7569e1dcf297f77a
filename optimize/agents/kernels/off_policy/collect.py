"""Collection of transitions: environments stepped by kernels, and the replay that they fill."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from envs.observations import account_layout, write_observations
from envs.outcomes import COMPLETED
from optimize.agents.kernels.env_step import make_env_step, outcome_message, step_locals
from optimize.agents.kernels.off_policy.loop import AlgorithmKernels, LearnerT, RolloutPlan, rollouts_kernel
from optimize.agents.kernels.off_policy.replay import ReplayArrays, make_replay
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.errors import BadInputError, NumericError
from optimize.hashing import hash_arrays


@dataclass(frozen=True, eq=False)
class StoredReplay:
    """A replay without its environments, with the digest that identifies their market."""

    replay: ReplayArrays
    market: str  # digest of the bars and features that the indices point into

    @property
    def n_envs(self) -> int:
        """Return how many environments filled it."""
        return int(self.replay.bar.shape[1])


class ReplayCollector(Generic[LearnerT]):
    """Steps N environments and stores transitions; the vector environment starts the episodes."""

    def __init__(
        self, vec_env: SB3VecEnv, kernels: AlgorithmKernels[LearnerT], capacity: int, action_size: int
    ) -> None:
        env = vec_env.env
        self.vec_env = vec_env
        self.env_state = env.env_state
        self._run = rollouts_kernel(kernels, env.reward_function)
        self._layout = account_layout(env.layout)
        count = env.num_envs
        self.replay = make_replay(capacity, count, self._layout.size, action_size)
        self._step = make_env_step(vec_env)
        self._observation = np.zeros(count * self.env_state.layout.size, np.float32)

    @property
    def filled(self) -> int:
        """Return how many slots of the replay hold transitions of all environments."""
        return int(self.replay.place[1])

    def run(
        self, learner: LearnerT, plan: RolloutPlan, first: int, stop: int, losses: NDArray[np.float64]
    ) -> tuple[int, list[dict[str, float]]]:
        """Run steps `first` to `stop` of a plan, or to the end of an episode.

        Return the number of the next step and the statistics of the episodes that ended.
        """
        done_steps, outcome, row, active = self._run(
            learner,
            self.env_state,
            self._layout,
            self.replay,
            self._step,
            self._observation,
            plan,
            first,
            stop,
            losses,
        )
        if outcome != COMPLETED:
            raise NumericError(outcome_message(self.env_state, outcome, row))
        self.vec_env.env.count_scored((done_steps - first) * len(self.env_state.bar), active)
        done = self._step.terminated | self._step.truncated
        if not done.any():
            return done_steps, []
        ended = self.vec_env.end_episodes(done)
        self.vec_env.env.begin(done)
        return done_steps, ended

    def stored(self) -> StoredReplay:
        """Return a copy of the replay that outlives the environments."""
        return StoredReplay(ReplayArrays._make(part.copy() for part in self.replay), self._market())

    def restore(self, stored: StoredReplay) -> None:
        """Restore a stored replay; refuse one of another market, number or kind of environments."""
        widths = [tuple(part.shape[1:]) for part in self.replay[:-1]]
        theirs = [tuple(part.shape[1:]) for part in stored.replay[:-1]]
        if widths != theirs or stored.market != self._market():
            raise BadInputError(
                f"the replay of {stored.n_envs} environments does not fit these {len(self.env_state.bar)} on "
                "this market, to which its bar indices do not refer: train without it"
            )
        self.replay = ReplayArrays._make(part.copy() for part in stored.replay)

    def _market(self) -> str:
        return hash_arrays([*self.env_state.bars.arrays, self.env_state.features])

    def last_step(self, ended: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Return the locals of stable-baselines3 after the step just made, in which these episodes ended."""
        done = self._step.terminated | self._step.truncated
        return step_locals(self._step, done, ended, self.observe())

    def steps_left(self) -> int:
        """Return the steps to the end of the first row's episode, unless ruin ends it earlier."""
        return int(self.env_state.last[0] - self.env_state.bar[0])

    def observe(self) -> NDArray[np.float32]:
        """Return the current observations of all rows (N, D)."""
        env, count = self.env_state, len(self.env_state.bar)
        observation = np.empty((count, env.layout.size), np.float32)
        tradable, wanted = env.bars.tradable, np.ones(count, np.bool_)
        write_observations(
            env.features, tradable, env.layout, env.bar, env.account, env.reward_state, wanted, observation
        )
        return observation
