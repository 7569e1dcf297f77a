"""On-policy rollout of N rows in one loop: policy, ledger and reward."""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.env_state import EnvState
from envs.observations import ObservationLayout, write_account
from envs.outcomes import BAD_REWARD, COMPLETED
from envs.rewards import RewardFunction, net_log_return
from optimize.agents.kernels.bindings import bind_kernels, kernel
from optimize.agents.kernels.env_step import EnvStep, step_ledger
from optimize.agents.kernels.nets.actor_critic import Network, Samples
from optimize.agents.kernels.nets.layers import Matrix, Vector
from optimize.agents.kernels.nets.policy_head import RolloutPolicy, forward_policy, sample_action


class RolloutRewards(NamedTuple):
    """Rewards and episode ends of a rollout, arrays (N, n_steps)."""

    reward: Matrix
    done: Matrix  # 1 where the step ended its episode


_reward: RewardFunction = net_log_return  # in `run_steps`; `steps_kernel` puts another in its place


def run_steps(
    network: Network,
    parameters: Vector,
    policy: RolloutPolicy,
    env: EnvState,
    account_layout: ObservationLayout,
    samples: Samples,
    rewards: RolloutRewards,
    step: EnvStep,
    noise: NDArray[np.float32],
    first: int,
    stop: int,
) -> tuple[int, int, int, int]:
    """Take steps first, ..., stop - 1 of a rollout, until an episode ends or an error occurs.

    account_layout is the layout of an observation without its window, noise is (n_steps, N, A). Return the
    number of the next step, the outcome, the row that failed, and the number of rewards limited neither by
    floor nor by clip.
    """
    n_envs, n_steps = rewards.reward.shape
    active = 0
    for number in range(first, stop):
        for row in range(n_envs):
            sample = row * n_steps + number
            bar = env.bar[row]
            samples.bar[sample] = bar
            account_row = samples.account[sample]
            write_account(
                row, bar, env.bars.tradable, account_layout, env.account, env.reward_state, account_row
            )
            output = policy.values[forward_policy(network, parameters, policy, bar, account_row)]
            action = samples.action[sample]
            sample_action(
                network, parameters, output, noise[number, row], env.lowest, action, step.target[row]
            )
            step.previous[row] = env.account.equity[row]
        outcome, failing = step_ledger(env, step)
        if outcome != COMPLETED:
            return number, outcome, failing, active
        account = env.account
        active += _reward(
            step.previous, account.equity, account.peak, env.reward_state, env.reward_params, step.reward
        )
        ended = False
        for row in range(n_envs):
            if not math.isfinite(step.reward[row]):
                return number, BAD_REWARD, row, active
            done = step.terminated[row] or step.truncated[row]
            ended = ended or done
            rewards.reward[row, number] = step.reward[row]
            rewards.done[row, number] = np.float32(done)
            step.reward_sum[row] += step.reward[row]
            step.length[row] += 1
        if ended:
            return number + 1, COMPLETED, -1, active
    return stop, COMPLETED, -1, active


# network, parameters, policy, environments, account layout, samples, rewards, step, noise, first, stop
StepsKernel = Callable[
    [
        Network,
        Vector,
        RolloutPolicy,
        EnvState,
        ObservationLayout,
        Samples,
        RolloutRewards,
        EnvStep,
        NDArray[np.float32],
        int,
        int,
    ],
    tuple[int, int, int, int],
]


@cache
def steps_kernel(reward: RewardFunction) -> StepsKernel:
    """Return `run_steps` compiled for a reward; each reward has its own cached kernel."""
    return kernel(bind_kernels(run_steps, f"run_steps_{reward.__name__}", _reward=reward))
