"""The environments of an off-policy training, stepped by the kernels, and the replay that they fill."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.observations import account_layout, gather
from optimize.agents.compiled.collect import explain
from optimize.agents.compiled.off_policy_loop import Plan, Rules, player_of
from optimize.agents.compiled.replay import Replay, make_replay
from optimize.agents.compiled.rollout import PLAYED, blank_step
from optimize.agents.compiled.stepping import step_locals
from optimize.agents.vecenv import SB3VecEnv
from optimize.errors import BadInputError, NumericError
from optimize.hashing import hash_arrays


@dataclass(frozen=True, eq=False)
class StoredReplay:
    """A replay apart from its environments, with what it takes to know their market again."""

    replay: Replay
    market: str  # digest of the bars and features that the indices point into

    @property
    def n_envs(self) -> int:
        """Return how many environments filled it."""
        return int(self.replay.bar.shape[1])


class Player:
    """Plays N environments and remembers; episodes begin where the vector environment begins them."""

    def __init__(self, vec_env: SB3VecEnv, rules: Rules, capacity: int, action_size: int) -> None:
        env = vec_env.env
        self.vec_env = vec_env
        self.world = env.world
        self._play = player_of(rules, env.reward_function)
        self._layout = account_layout(env.layout)
        count = env.num_envs
        self.replay = make_replay(capacity, count, self._layout.size, action_size)
        self._step = blank_step(vec_env)
        self._observation = np.zeros(count * self.world.layout.size, np.float32)

    @property
    def filled(self) -> int:
        """Return how many slots of the replay hold transitions of all environments."""
        return int(self.replay.place[1])

    def play(
        self, learner: Any, plan: Plan, first: int, stop: int, losses: NDArray[np.float64]
    ) -> tuple[int, list[dict[str, float]]]:
        """Go on from step `first` of a plan to `stop`, or to the end of an episode.

        Return the number of the next step, and describe the episodes that ended.
        """
        done_steps, outcome, row, active = self._play(
            learner,
            self.world,
            self._layout,
            self.replay,
            self._step,
            self._observation,
            plan,
            first,
            stop,
            losses,
        )
        if outcome != PLAYED:
            raise NumericError(explain(self.world, outcome, row))
        self.vec_env.env.count_scored((done_steps - first) * len(self.world.bar), active)
        done = self._step.terminated | self._step.truncated
        if not done.any():
            return done_steps, []
        ended = self.vec_env.end_episodes(done)
        self.vec_env.env.begin(done)
        return done_steps, ended

    def stored(self) -> StoredReplay:
        """Return a copy of the replay that outlives the environments."""
        return StoredReplay(Replay._make(part.copy() for part in self.replay), self._market())

    def restore(self, stored: StoredReplay) -> None:
        """Go on with a stored replay; refuse one of another market, number or kind of environments."""
        widths = [tuple(part.shape[1:]) for part in self.replay[:-1]]
        theirs = [tuple(part.shape[1:]) for part in stored.replay[:-1]]
        if widths != theirs or stored.market != self._market():
            raise BadInputError(
                f"the replay of {stored.n_envs} environments is not of these {len(self.world.bar)} on this "
                "market: its bar indices mean nothing here; leave it out"
            )
        self.replay = Replay._make(part.copy() for part in stored.replay)

    def _market(self) -> str:
        return hash_arrays([*self.world.bars, self.world.features])

    def last_step(self, ended: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Return the locals of stable-baselines3 after the step just made, in which these episodes ended."""
        done = self._step.terminated | self._step.truncated
        return step_locals(self._step, done, ended, self.observe())

    def steps_left(self) -> int:
        """Return the steps to the end of the first row's episode, unless it is ruined before."""
        return int(self.world.last[0] - self.world.bar[0])

    def observe(self) -> NDArray[np.float32]:
        """Return what every row observes now, (N, D)."""
        world, count = self.world, len(self.world.bar)
        observation = np.empty((count, world.layout.size), np.float32)
        tradable, wanted = world.bars.tradable, np.ones(count, np.bool_)
        gather(
            world.features, tradable, world.layout, world.bar, world.account, world.state, wanted, observation
        )
        return observation
