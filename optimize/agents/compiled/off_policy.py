"""What the compiled SAC, TD3 and DQN share: SB3's loop around steps and updates that the kernels make."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from envs.types import BoolArray
from optimize.agents.callbacks import wants_every_step
from optimize.agents.compiled.off_policy_loop import Draws, Plan, Rules, learner_of
from optimize.agents.compiled.off_policy_player import Player, StoredReplay
from optimize.agents.compiled.stepping import called_after
from optimize.agents.threads import keep_blas_single
from optimize.agents.vecenv import SB3VecEnv
from optimize.errors import BadInputError

LOSSES = 4  # columns, at least as many as any algorithm notes
MOST_UPDATES = 256  # that are drawn ahead
MOST_STEPS = 500  # between two calls of a callback
LEAST_ROLLOUTS = 32  # between two calls, so that the calls themselves cost little


class CompiledOffPolicy(OffPolicyAlgorithm):
    """An off-policy algorithm of SB3 whose rollouts and the updates between them are made by one kernel.

    `save` writes what SB3 writes: the networks' parameters and the optimizers' moments are the very memory
    that the kernels work on. The replay holds bar indices, not observations, and begins anew with other
    environments. Several rollouts are played in one go, a half percent of the training but at most 500
    steps; where that is below 32 rollouts, so many, but at most 5 percent of the training. Watch is called
    for these as for one rollout, after its first step, where a stop asked for at its start takes effect, and
    after its last one. With any other callback one rollout is played at a time, and all are called after
    every step, as stable-baselines3 calls them. What is logged is of the last rollout's updates. The weights
    do not depend on where a go ends. A copy or a pickle is laid out anew and keeps its replay.
    """

    _rules: ClassVar[Rules]
    _kinds: ClassVar[int]  # of noise that an update draws
    _player: Player | None
    _room: tuple[int, Any] | None
    _waiting: StoredReplay | None  # a replay that was loaded before the environments were known

    def _setup_model(self) -> None:
        wanted, self.buffer_size = self.buffer_size, self.n_envs  # SB3's own buffer, of windows, is not used
        super()._setup_model()
        self.buffer_size, self.replay_buffer = wanted, None
        keep_blas_single()
        self._player = self._room = self._waiting = None
        self._lay_out()

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without views of memory, which would be copied apart from each other."""
        state = {name: value for name, value in vars(self).items() if not _is_own(name)}
        return state | {"_waiting": self._waiting if self._player is None else self._player.stored()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay a copy out anew, on parameters, moments and a replay of its own."""
        vars(self).update(state)
        self._player = self._room = None
        self._lay_out()

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """Save the replay: bar indices and accounts, which only the same market gives a meaning."""
        stored = self._waiting if self._player is None else self._player.stored()
        if stored is None:
            raise BadInputError(
                "there is no replay to save: the model has not been trained since it was made"
            )
        save_to_pkl(path, stored, self.verbose)

    def load_replay_buffer(
        self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True
    ) -> None:
        """Load a saved replay, to go on from; it must be of the market and number of the environments."""
        found = load_from_pkl(path, self.verbose)
        if not isinstance(found, StoredReplay):
            raise BadInputError(
                f"the file holds a {type(found).__name__} of observations, and the compiled engine keeps bar "
                "indices: save the replay of a compiled model, or set agent.engine=stock"
            )
        self._waiting = found
        if isinstance(self.env, SB3VecEnv):
            self._player = None
            self._player_of(self.env)

    def _lay_out(self) -> None:
        """Let the networks live in flat vectors; BadInputError where the kernels cannot train them."""
        raise NotImplementedError

    def _learner(self, batch: int) -> Any:
        """Return what the kernels read and write, with room for batches of up to this size."""
        raise NotImplementedError

    def _make_room(self, batch: int) -> Any:
        """Return the same without what is learned."""
        raise NotImplementedError

    def _note(self, learner: Any) -> None:
        """Let the optimizers know of the steps that the kernels have taken."""
        raise NotImplementedError

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        raise NotImplementedError

    def _draw_actions(self, done: int, steps: int, learning_starts: int) -> tuple[BoolArray, Any]:
        """Return at_random (steps,) and the noise (steps, N, A) of the steps after `done` timesteps."""
        raise NotImplementedError

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        """Fill the noise of one update: of each kind (B, A)."""
        raise NotImplementedError

    def _record(self, losses: NDArray[np.float64]) -> None:
        """Log the losses (U, LOSSES) of the updates after a rollout."""
        raise NotImplementedError

    def _room_for(self, batch: int) -> Any:
        """Return room for batches of up to this size and for all environments."""
        wanted = max(batch, self.n_envs)
        if self._room is None or self._room[0] < wanted:
            self._room = wanted, self._make_room(wanted)
        return self._room[1]

    def _before(self, done: int, steps: int, learning_starts: int) -> BoolArray:
        """Return which of the steps (steps,) after `done` timesteps are the random ones before learning."""
        found: BoolArray = done + np.arange(steps) * self.n_envs < learning_starts
        return found

    def _draw_uniform(self, steps: int) -> NDArray[np.float32]:
        """Return random actions (steps, N, A) between -1 and 1."""
        shape = (steps, self.n_envs, self._action_size)
        return np.random.uniform(-1.0, 1.0, shape).astype(np.float32)  # noqa: NPY002 (as SB3)

    @property
    def _action_size(self) -> int:
        """Return A, 1 for a choice."""
        return math.prod(self.action_space.shape or (1,))

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Play rollouts, with the updates after each but the last; `train` makes those after the last."""
        player = self._player_of(env)
        callback.on_rollout_start()
        if train_freq.unit == TrainFrequencyUnit.STEP:
            ahead = 1 if wants_every_step(callback) else self._rollouts_ahead(train_freq.frequency)
            rollouts = ahead
            plan = self._draw_plan(player, train_freq.frequency, rollouts, learning_starts)
            taken, episodes, going = self._follow(plan, player, callback, log_interval, False)
            taken = train_freq.frequency
        else:
            assert env.num_envs == 1, "episodes are counted in one environment"
            taken, episodes, going = 0, 0, True
            while going and episodes < train_freq.frequency:
                plan = self._draw_plan(player, player.steps_left(), 1, learning_starts)
                steps, ended, going = self._follow(plan, player, callback, log_interval, True)
                taken, episodes = taken + steps, episodes + ended
        self._last_obs = player.observe()
        if going:
            callback.on_rollout_end()
        return RolloutReturn(taken * env.num_envs, episodes, going)

    def _follow(
        self,
        plan: Plan,
        player: Player,
        callback: BaseCallback,
        log_interval: int | None,
        one_episode: bool,
    ) -> tuple[int, int, bool]:
        """Do what is planned, or stop with the first episode; return steps, episodes, whether to go on."""
        learner = self._learner(plan.draws.slot.shape[1])
        losses = np.zeros((len(plan.draws.slot), LOSSES))
        n_envs, taken, episodes = len(player.world.bar), 0, 0
        wanted, ended = wants_every_step(callback), list[dict[str, float]]()
        for stop in called_after(callback, len(plan.at_random)):
            while taken < stop and not (one_episode and episodes):
                reached, ended = player.play(learner, plan, taken, stop, losses)
                self._count_steps(reached - taken, n_envs)
                taken, episodes = reached, episodes + len(ended)
                self._end_episodes(ended, log_interval)
            self._note(learner)
            if stop == len(plan.at_random):
                self._n_updates += len(losses)
            callback.update_locals(locals() | (player.last_step(ended) if wanted else {}))
            if not callback.on_step():
                return taken, episodes, False
            if one_episode and episodes and wanted:
                break
        return taken, episodes, True

    def _count_steps(self, steps: int, n_envs: int) -> None:
        self.num_timesteps += steps * n_envs
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)

    def _end_episodes(self, ended: Sequence[dict[str, float]], log_interval: int | None) -> None:
        assert self.ep_info_buffer is not None
        self.ep_info_buffer.extend(ended)
        for _ in ended:
            self._episode_num += 1
            if log_interval is not None and self._episode_num % log_interval == 0:
                self.dump_logs()

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update the networks that often, each time with a batch of this size from the replay."""
        assert self._player is not None, "train() follows collect_rollouts()"
        self._update_learning_rate(self._optimizers())
        player, learner = self._player, self._learner(batch_size)
        rate = float(self.lr_schedule(self._current_progress_remaining))
        losses = np.zeros((gradient_steps, LOSSES))
        for first in range(0, gradient_steps, MOST_UPDATES):
            some = losses[first : first + MOST_UPDATES]
            draws, noise = self._blank_draws(len(some), batch_size)
            for number, kinds in enumerate(noise):
                self._draw_update(draws, number, kinds, player.filled)
            learner_of(self._rules)(
                learner, player.world.features, player.replay, draws, 0, len(some), -first, rate, some
            )
        self._note(learner)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._record(losses)

    def _rollouts_ahead(self, steps: int) -> int:
        """Return how many rollouts of so many steps to play in one go."""
        rollout, total = steps * self.n_envs, self._total_timesteps - self._num_timesteps_at_start
        most = max(1, min(total // 200, MOST_STEPS), min(LEAST_ROLLOUTS * rollout, total // 20))
        done = self.num_timesteps - self._num_timesteps_at_start
        until = min((done // most + 1) * most, total)
        updates = max(self._updates_after(steps), 1)
        return max(1, min(math.ceil((until - done) / rollout), MOST_UPDATES // updates))

    def _updates_after(self, steps: int) -> int:
        return self.gradient_steps if self.gradient_steps >= 0 else steps * self.n_envs

    def _draw_plan(self, player: Player, steps: int, rollouts: int, learning_starts: int) -> Plan:
        """Draw what rollouts of so many steps do, one rollout after the other as if each were drawn alone."""
        rollout, updates = steps * self.n_envs, self._updates_after(steps)
        trains_from = max(0, (learning_starts - self.num_timesteps) // rollout)
        draws, pending = self._blank_draws(max(0, rollouts - 1 - trains_from) * updates, self.batch_size)
        drawn, at_random, noise, rates = 0, [], [], np.empty(rollouts)
        slots = len(player.replay.bar)
        for number in range(rollouts):
            done = self.num_timesteps + number * rollout
            here, how = self._draw_actions(done, steps, learning_starts)
            at_random.append(here)
            noise.append(how)
            rates[number] = self.lr_schedule(self._progress_after(done + rollout))
            if trains_from <= number < rollouts - 1:
                filled = min(player.filled + (number + 1) * steps, slots)
                for _ in range(updates):
                    self._draw_update(draws, drawn, pending[drawn], filled)
                    drawn += 1
        both = np.concatenate(at_random), np.concatenate(noise)
        return Plan(steps, trains_from, updates, rates, *both, draws)

    def _progress_after(self, timesteps: int) -> float:
        """Return the progress remaining, as SB3 computes it."""
        return 1.0 - timesteps / float(self._total_timesteps)

    def _blank_draws(self, updates: int, batch: int) -> tuple[Draws, list[list[torch.Tensor]]]:
        """Return room for what so many updates draw, and the noise of each as tensors, one of each kind."""
        shape = (updates, batch)
        noise = np.zeros((updates, self._kinds, batch, self._action_size), np.float32)
        views = [list(kinds) for kinds in torch.from_numpy(noise)] if self._kinds else [[]] * updates
        return Draws(np.zeros(shape, np.int64), np.zeros(shape, np.int64), noise), views

    def _draw_update(self, draws: Draws, number: int, noise: Sequence[torch.Tensor], filled: int) -> None:
        """Draw a batch as SB3's buffers do, and then the noise."""
        batch = draws.slot.shape[1]
        draws.slot[number] = np.random.randint(0, filled, size=batch)  # noqa: NPY002 (as SB3)
        if self.n_envs > 1:
            draws.row[number] = np.random.randint(0, self.n_envs, size=batch)  # noqa: NPY002
        self._draw_noise(noise)

    def _player_of(self, env: VecEnv) -> Player:
        found = self._player
        if found is None or found.vec_env is not env:
            if not isinstance(env, SB3VecEnv):
                raise BadInputError(
                    f"agent.engine='compiled' plays an SB3VecEnv and no {type(env).__name__}: wrap nothing "
                    "around it, or set agent.engine=stock"
                )
            found = self._player = Player(env, self._rules, self.buffer_size, self._action_size)
            if self._waiting is not None:
                found.restore(self._waiting)
                self._waiting = None
        return found

    def release(self) -> None:
        """Let go of the environments, of the replay and of the room to work."""
        self._player = self._room = self._waiting = None

    def _excluded_save_params(self) -> list[str]:
        own = [name for name in vars(self) if _is_own(name)]
        return [*super()._excluded_save_params(), *own, "_waiting"]


def _is_own(name: str) -> bool:
    """Return whether an attribute is memory of the kernels, which is laid out anew from the networks."""
    return name.startswith("_flat_") or name in ("_nets", "_player", "_room")
