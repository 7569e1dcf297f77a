"""Base of compiled SAC, TD3 and DQN: SB3's training loop around compiled steps and updates."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

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
from optimize.agents.kernels.env_step import callback_steps
from optimize.agents.kernels.off_policy.collect import ReplayCollector, StoredReplay
from optimize.agents.kernels.off_policy.loop import (
    AlgorithmKernels,
    LearnerT,
    RolloutPlan,
    UpdateDraws,
    updates_kernel,
)
from optimize.agents.sb3.callbacks import next_due, wants_every_step
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.agents.threads import limit_blas_threads
from optimize.errors import BadInputError

LOSS_COLUMNS = 4  # columns, at least as many as any algorithm notes
MAX_DRAWN_UPDATES = 256  # that are drawn ahead
MAX_STEPS_BETWEEN_CALLS = 500  # between two calls of a callback
MIN_ROLLOUTS_BETWEEN_CALLS = 32  # between two calls, so that calls cost little


class CompiledOffPolicy(OffPolicyAlgorithm, Generic[LearnerT]):
    """An off-policy algorithm of SB3 whose rollouts and updates run in one kernel.

    `save` writes the same file as SB3: networks and optimizer moments share memory with the kernels. The
    replay stores bar indices, not observations, and starts empty with other environments. Several rollouts
    run in one call: half a percent of the training but at most 500 steps; at least 32 rollouts, but at most
    5 percent of the training. TrainingMonitor is called after the first and the last step of such a call;
    with any other callback each call runs one rollout, and all callbacks are called after every step, as by
    stable-baselines3. Logged losses are those of the last rollout's updates. The weights do not depend on the
    division into calls, and a call ends where a checkpoint is due. A copy or a pickle is laid out anew and
    keeps its replay.
    """

    _kernels: ClassVar[AlgorithmKernels[Any]]
    _noise_kinds: ClassVar[int]  # of noise that an update draws
    _collector: ReplayCollector[LearnerT] | None
    _room: tuple[int, LearnerT] | None
    _stored_replay: StoredReplay | None  # a replay loaded before the environments were set

    def _setup_model(self) -> None:
        wanted, self.buffer_size = self.buffer_size, self.n_envs  # SB3's own buffer is not used
        super()._setup_model()
        self.buffer_size, self.replay_buffer = wanted, None
        limit_blas_threads()
        self._collector = self._room = self._stored_replay = None
        self._lay_out()

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without views, which a copy would no longer share."""
        state = {name: value for name, value in vars(self).items() if not _is_own(name)}
        return state | {
            "_stored_replay": self._stored_replay if self._collector is None else self._collector.stored()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy its own parameters, moments and replay."""
        vars(self).update(state)
        self._collector = self._room = None
        self._lay_out()

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """Save the replay: bar indices and accounts, valid only for the same market."""
        stored = self._stored_replay if self._collector is None else self._collector.stored()
        if stored is None:
            raise BadInputError(
                "there is no replay to save: the model has not been trained since it was made"
            )
        save_to_pkl(path, stored, self.verbose)

    def load_replay_buffer(
        self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True
    ) -> None:
        """Load a saved replay; it must fit the market and the number of environments."""
        found = load_from_pkl(path, self.verbose)
        if not isinstance(found, StoredReplay):
            raise BadInputError(
                f"the file holds a {type(found).__name__} of observations, and the compiled engine keeps bar "
                "indices: save the replay of a compiled model, or set agent.engine=stock"
            )
        self._stored_replay = found
        if isinstance(self.env, SB3VecEnv):
            self._collector = None
            self._collector_of(self.env)

    def _lay_out(self) -> None:
        """Move the networks to flat vectors; raise BadInputError if the kernels cannot train them."""
        raise NotImplementedError

    def _learner(self, batch: int) -> LearnerT:
        """Return networks and buffers of the kernels for batches of up to this size."""
        raise NotImplementedError

    def _make_room(self, batch: int) -> LearnerT:
        """Return the buffers for batches of up to this size, with empty networks."""
        raise NotImplementedError

    def _set_optimizer_steps(self, learner: LearnerT) -> None:
        """Set the step counts of the optimizers to those of the kernels."""
        raise NotImplementedError

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        raise NotImplementedError

    def _draw_actions(self, done: int, steps: int, learning_starts: int) -> tuple[BoolArray, Any]:
        """Return at_random (steps,) and the noise (steps, N, A) of the steps after `done` timesteps."""
        raise NotImplementedError

    def _draw_noise(self, noise: Sequence[torch.Tensor]) -> None:
        """Fill the noise of one update, (B, A) of each kind."""
        raise NotImplementedError

    def _record(self, losses: NDArray[np.float64]) -> None:
        """Log the losses (U, LOSS_COLUMNS) of the updates after a rollout."""
        raise NotImplementedError

    def _room_for(self, batch: int) -> LearnerT:
        """Return buffers for batches of up to this size and for all environments."""
        wanted = max(batch, self.n_envs)
        if self._room is None or self._room[0] < wanted:
            self._room = wanted, self._make_room(wanted)
        return self._room[1]

    def _before(self, done: int, steps: int, learning_starts: int) -> BoolArray:
        """Return which steps (steps,) after `done` timesteps are random ones before learning starts."""
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
        """Run rollouts with the updates after all but the last; `train` makes those after the last."""
        collector = self._collector_of(env)
        callback.on_rollout_start()
        if train_freq.unit == TrainFrequencyUnit.STEP:
            due = next_due(callback)
            rollouts = 1 if wants_every_step(callback) else self._rollouts_ahead(train_freq.frequency, due)
            plan = self._draw_plan(collector, train_freq.frequency, rollouts, learning_starts)
            taken, episodes, going = self._run_plan(plan, collector, callback, log_interval, False)
            taken = train_freq.frequency
        else:
            assert env.num_envs == 1, "episodes are counted in one environment"
            taken, episodes, going = 0, 0, True
            while going and episodes < train_freq.frequency:
                plan = self._draw_plan(collector, collector.steps_left(), 1, learning_starts)
                steps, ended, going = self._run_plan(plan, collector, callback, log_interval, True)
                taken, episodes = taken + steps, episodes + ended
        self._last_obs = collector.observe()
        if going:
            callback.on_rollout_end()
        return RolloutReturn(taken * env.num_envs, episodes, going)

    def _run_plan(
        self,
        plan: RolloutPlan,
        collector: ReplayCollector[LearnerT],
        callback: BaseCallback,
        log_interval: int | None,
        one_episode: bool,
    ) -> tuple[int, int, bool]:
        """Run a plan, or its first episode; return steps, episodes and whether to continue."""
        learner = self._learner(plan.draws.slot.shape[1])
        losses = np.zeros((len(plan.draws.slot), LOSS_COLUMNS))
        n_envs, taken, episodes = len(collector.env_state.bar), 0, 0
        wanted, ended = wants_every_step(callback), list[dict[str, float]]()
        for stop in callback_steps(callback, len(plan.at_random)):
            while taken < stop and not (one_episode and episodes):
                reached, ended = collector.run(learner, plan, taken, stop, losses)
                self._count_steps(reached - taken, n_envs)
                taken, episodes = reached, episodes + len(ended)
                self._end_episodes(ended, log_interval)
            self._set_optimizer_steps(learner)
            if stop == len(plan.at_random):
                self._n_updates += len(losses)
            callback.update_locals(locals() | (collector.last_step(ended) if wanted else {}))
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
        """Make `gradient_steps` updates of the networks, each with a batch of this size from the replay."""
        assert self._collector is not None, "train() follows collect_rollouts()"
        self._update_learning_rate(self._optimizers())
        collector, learner = self._collector, self._learner(batch_size)
        rate = float(self.lr_schedule(self._current_progress_remaining))
        losses = np.zeros((gradient_steps, LOSS_COLUMNS))
        for first in range(0, gradient_steps, MAX_DRAWN_UPDATES):
            some = losses[first : first + MAX_DRAWN_UPDATES]
            draws, noise = self._blank_draws(len(some), batch_size)
            for number, kinds in enumerate(noise):
                self._draw_update(draws, number, kinds, collector.filled)
            updates_kernel(self._kernels)(
                learner,
                collector.env_state.features,
                collector.replay,
                draws,
                0,
                len(some),
                -first,
                rate,
                some,
            )
        self._set_optimizer_steps(learner)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._record(losses)

    def _rollouts_ahead(self, steps: int, due: float) -> int:
        """Return the number of rollouts of `steps` steps to run in one call, none beyond `due` timesteps."""
        rollout, total = steps * self.n_envs, self._total_timesteps - self._num_timesteps_at_start
        most = max(
            1,
            min(total // 200, MAX_STEPS_BETWEEN_CALLS),
            min(MIN_ROLLOUTS_BETWEEN_CALLS * rollout, total // 20),
        )
        done = self.num_timesteps - self._num_timesteps_at_start
        until = min((done // most + 1) * most, total, due - self._num_timesteps_at_start)
        updates = max(self._updates_after(steps), 1)
        return max(1, min(math.ceil((until - done) / rollout), MAX_DRAWN_UPDATES // updates))

    def _updates_after(self, steps: int) -> int:
        return self.gradient_steps if self.gradient_steps >= 0 else steps * self.n_envs

    def _draw_plan(
        self, collector: ReplayCollector[LearnerT], steps: int, rollouts: int, learning_starts: int
    ) -> RolloutPlan:
        """Draw a plan of rollouts of `steps` steps, in the order in which SB3 would draw."""
        rollout, updates = steps * self.n_envs, self._updates_after(steps)
        trains_from = max(0, (learning_starts - self.num_timesteps) // rollout)
        draws, pending = self._blank_draws(max(0, rollouts - 1 - trains_from) * updates, self.batch_size)
        drawn, at_random, noise, rates = 0, [], [], np.empty(rollouts)
        slots = len(collector.replay.bar)
        for number in range(rollouts):
            done = self.num_timesteps + number * rollout
            here, how = self._draw_actions(done, steps, learning_starts)
            at_random.append(here)
            noise.append(how)
            rates[number] = self.lr_schedule(self._progress_after(done + rollout))
            if trains_from <= number < rollouts - 1:
                filled = min(collector.filled + (number + 1) * steps, slots)
                for _ in range(updates):
                    self._draw_update(draws, drawn, pending[drawn], filled)
                    drawn += 1
        both = np.concatenate(at_random), np.concatenate(noise)
        return RolloutPlan(steps, trains_from, updates, rates, *both, draws)

    def _progress_after(self, timesteps: int) -> float:
        """Return the progress remaining, as SB3 computes it."""
        return 1.0 - timesteps / float(self._total_timesteps)

    def _blank_draws(self, updates: int, batch: int) -> tuple[UpdateDraws, list[list[torch.Tensor]]]:
        """Return empty draws of `updates` updates, and views of their noise as tensors, one of each kind."""
        shape = (updates, batch)
        noise = np.zeros((updates, self._noise_kinds, batch, self._action_size), np.float32)
        views = [list(kinds) for kinds in torch.from_numpy(noise)] if self._noise_kinds else [[]] * updates
        return UpdateDraws(np.zeros(shape, np.int64), np.zeros(shape, np.int64), noise), views

    def _draw_update(
        self, draws: UpdateDraws, number: int, noise: Sequence[torch.Tensor], filled: int
    ) -> None:
        """Draw a batch as SB3's buffers do, then the noise."""
        batch = draws.slot.shape[1]
        draws.slot[number] = np.random.randint(0, filled, size=batch)  # noqa: NPY002 (as SB3)
        if self.n_envs > 1:
            draws.row[number] = np.random.randint(0, self.n_envs, size=batch)  # noqa: NPY002
        self._draw_noise(noise)

    def _collector_of(self, env: VecEnv) -> ReplayCollector[LearnerT]:
        found = self._collector
        if found is None or found.vec_env is not env:
            if not isinstance(env, SB3VecEnv):
                raise BadInputError(
                    f"agent.engine='compiled' trains in an SB3VecEnv, not in a {type(env).__name__}: "
                    "remove the wrapper, or set agent.engine=stock"
                )
            found = self._collector = ReplayCollector(env, self._kernels, self.buffer_size, self._action_size)
            if self._stored_replay is not None:
                found.restore(self._stored_replay)
                self._stored_replay = None
        return found

    def release(self) -> None:
        """Release the environments, the replay and the buffers."""
        self._collector = self._room = self._stored_replay = None

    def _excluded_save_params(self) -> list[str]:
        own = [name for name in vars(self) if _is_own(name)]
        return [*super()._excluded_save_params(), *own, "_stored_replay"]


def _is_own(name: str) -> bool:
    """Return whether an attribute is memory of the kernels, which is rebuilt from the networks."""
    return name.startswith("_flat_") or name in ("_nets", "_collector", "_room")
