"""Every timeframe trains the same number of passes over the same days."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.agents.budget import (
    as_trained,
    budget_lines,
    budget_of_passes,
    changed_by_budget,
    check_budget,
    divide_budget,
    fit_to_budget,
)
from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError

PPO = {"n_steps": 256, "batch_size": 64}


def trained(agent: AgentSpec) -> int:
    """Return the steps that SB3's learn() takes: whole rollouts until the budget is reached."""
    rollout: int = fit_to_budget(agent)["n_steps"] * agent.n_envs
    return math.ceil(agent.total_timesteps / rollout) * rollout


@pytest.mark.parametrize("total", [20_000, 50_000])
@pytest.mark.parametrize("ratio", [0.5, 2, 4, 6, 12, 24])
def test_coarse_bars_get_their_share_of_the_steps(total: int, ratio: float) -> None:
    agent = AgentSpec("ppo", total_timesteps=total, n_envs=8, hyperparameters=PPO)
    scaled = divide_budget(agent, ratio)
    assert trained(scaled) * ratio == pytest.approx(trained(agent), rel=0.02)
    assert trained(scaled) == scaled.total_timesteps


def test_minibatches_divide_a_rollout_where_they_can() -> None:
    agent = AgentSpec("ppo", total_timesteps=50_000, n_envs=8, hyperparameters=PPO)
    lengths = [divide_budget(agent, ratio).hyperparameters["n_steps"] for ratio in (2, 4, 6)]
    assert all(length * 8 % 64 == 0 for length in lengths), lengths


def test_rollouts_that_divide_keep_their_length() -> None:
    agent = AgentSpec("ppo", total_timesteps=8192, n_envs=8, hyperparameters=PPO)
    scaled = divide_budget(agent, 2)
    assert scaled.hyperparameters == agent.hyperparameters
    assert scaled.total_timesteps == 4096


def test_off_policy_agents_count_single_steps() -> None:
    assert divide_budget(AgentSpec("sac", total_timesteps=1001), 4).total_timesteps == 250


@settings(max_examples=200, deadline=None)
@given(
    total=st.integers(5_000, 10**6),
    n_envs=st.integers(1, 16),
    n_steps=st.integers(32, 1024),
    batch_size=st.sampled_from([32, 50, 64, 256]),
    ratio=st.sampled_from([0.25, 0.5, 2.0, 3.0, 8.0]),
)
def test_any_ppo_keeps_its_passes(
    total: int, n_envs: int, n_steps: int, batch_size: int, ratio: float
) -> None:
    chosen = {"n_steps": n_steps, "batch_size": batch_size}
    agent = AgentSpec("ppo", total_timesteps=total, n_envs=n_envs, hyperparameters=chosen)
    scaled = divide_budget(agent, ratio)
    few = n_envs / 2 * max(1, scaled.total_timesteps / (fit_to_budget(scaled)["n_steps"] * n_envs))
    assert abs(trained(scaled) - trained(agent) / ratio) <= max(few, 0.02 * trained(agent) / ratio) + 1


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_passes_are_the_same_number_of_steps_a_bar_at_every_timeframe(name: str) -> None:
    n_envs = 1 if name == "sac" else 8
    agent = AgentSpec(name, total_timesteps=7, n_envs=n_envs, hyperparameters=PPO if name == "ppo" else {})
    for bars in (4300, 2150, 1075, 180):
        budget = budget_of_passes(agent, 5.0, bars)
        steps = budget.total_timesteps if name == "sac" else trained(budget)
        assert steps == pytest.approx(5 * bars, rel=0.02)
    assert budget_of_passes(agent, 0.001, 100).total_timesteps >= n_envs


def test_the_values_that_training_works_with_are_known_and_train_the_same() -> None:
    sac = AgentSpec("sac", 1500, 1, hyperparameters={"learning_starts": 2000, "buffer_size": 10**5})
    assert changed_by_budget(sac) == {"learning_starts": (2000, 750)}
    assert as_trained(sac).hyperparameters == {"learning_starts": 750, "buffer_size": 10**5}
    assert fit_to_budget(as_trained(sac)) == fit_to_budget(sac)
    assert budget_lines(sac)[0].startswith("agent.learning_starts=2000 trains as 750")
    ppo = AgentSpec("ppo", 1000, 4, hyperparameters={"n_steps": 512, "batch_size": 4096})
    assert changed_by_budget(ppo) == {"n_steps": (512, 128), "batch_size": (4096, 512)}
    assert fit_to_budget(as_trained(ppo)) == fit_to_budget(ppo)
    dqn = AgentSpec("dqn", 1000, 8, hyperparameters={"target_update_interval": 100})
    assert as_trained(dqn).hyperparameters == {"target_update_interval": 96}
    fitting = AgentSpec("ppo", 8192, 8, hyperparameters={"n_steps": 64})
    assert as_trained(fitting) is fitting


def test_an_agent_that_would_train_past_its_budget_before_it_learns_is_refused() -> None:
    with pytest.raises(
        BadInputError, match=r"agent\.train_freq \* agent\.n_envs=2000 .*total_timesteps=1500"
    ):
        check_budget(AgentSpec("sac", 1500, 1, hyperparameters={"train_freq": 2000}))
    check_budget(AgentSpec("ppo", 1500, 1))
