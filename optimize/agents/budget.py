"""Training budget: hyperparameters that fit it, and the same training with fewer or more steps."""

import math
from dataclasses import replace
from typing import Any

from optimize.agents.registry import find_algorithm, hyperparameters_of
from optimize.agents.spec import AgentSpec
from optimize.agents.train_spec import TrainSpec, next_checkpoint
from optimize.errors import require

ROUNDED_KEYS = {"buffer_size", "target_update_interval"}  # to a multiple of agent.n_envs
BUDGETED_KEYS = (
    "n_steps",
    "batch_size",
    "buffer_size",
    "learning_starts",
    "target_update_interval",
    "train_freq",
)
ROLLOUT_TOLERANCE = 0.02  # of the steps, for rollouts that minibatches divide without a rest


def fit_to_budget(spec: AgentSpec) -> dict[str, Any]:
    """Return the hyperparameters, with those cut that do not fit into `total_timesteps`.

    A rollout longer than the budget would train past it: n_steps is cut to a power of two that fits, and
    batch_size to the rollout. A replay buffer never holds more than the budget, so buffer_size is cut to it
    to save memory; learning_starts is cut to half of it, so that the agent learns at all.
    """
    values = dict(spec.hyperparameters)
    full = _defaults(spec) | values
    if find_algorithm(spec.name).on_policy:
        if full["n_steps"] * spec.n_envs > spec.total_timesteps:
            values["n_steps"] = _power_of_two_within(spec.total_timesteps // spec.n_envs)
        rollout = values.get("n_steps", full["n_steps"]) * spec.n_envs
        if full.get("batch_size", 0) > rollout:
            values["batch_size"] = rollout
    else:
        values["buffer_size"] = min(full["buffer_size"], max(spec.total_timesteps, spec.n_envs))
        values["learning_starts"] = min(full["learning_starts"], spec.total_timesteps // 2)
    return values


def check_budget(spec: AgentSpec) -> None:
    """Refuse an off-policy agent whose first update comes after the end of its budget."""
    full = _defaults(spec) | spec.hyperparameters
    if "train_freq" in full:
        between = full["train_freq"] * spec.n_envs
        allowed = f"at most agent.total_timesteps={spec.total_timesteps}, or the agent would train past it"
        require(between <= spec.total_timesteps, "agent.train_freq * agent.n_envs", between, allowed)


def check_checkpoints(spec: AgentSpec, schedule: TrainSpec) -> None:
    """Refuse to average more checkpoints than a training of this agent has."""
    count = count_checkpoints(spec, schedule)
    allowed = f"at most {count}, the checkpoints of a training of {spec.total_timesteps} steps"
    require(schedule.average <= count, "train.average", schedule.average, allowed)


def count_checkpoints(spec: AgentSpec, schedule: TrainSpec) -> int:
    """Return the checkpoints of a training that is not stopped: after the first update of each interval."""
    full = _defaults(spec) | fit_to_budget(spec)
    rollout = full["n_steps" if find_algorithm(spec.name).on_policy else "train_freq"] * spec.n_envs
    end = math.ceil(spec.total_timesteps / rollout) * rollout
    interval = schedule.interval(spec.total_timesteps)
    count, taken = 0, 0
    while taken < end:
        taken = min(math.ceil(next_checkpoint(interval, taken) / rollout) * rollout, end)
        count += 1
    return count


def effective_hyperparameters(spec: AgentSpec) -> dict[str, Any]:
    """Return the hyperparameters in effect: cut to the budget, rounded to whole steps of all environments.

    Counts over all environments become whole multiples of agent.n_envs, as stable-baselines3 rounds them.
    """
    values = fit_to_budget(spec)
    for key in ROUNDED_KEYS & values.keys():
        values[key] = max(values[key] // spec.n_envs, 1) * spec.n_envs
    return values


def changed_by_budget(spec: AgentSpec) -> dict[str, tuple[Any, Any]]:
    """Return the configured hyperparameters that training changes: key -> (configured, effective).

    A replay buffer that is larger than the budget never fills, so its size changes nothing.
    """
    trained = effective_hyperparameters(spec)
    return {
        key: (value, trained[key])
        for key, value in spec.hyperparameters.items()
        if trained[key] != value and key != "buffer_size"
    }


def budget_lines(spec: AgentSpec) -> list[str]:
    """Return a line for each configured value that training changes."""
    return [
        f"agent.{key}={value} trains as {trained}: a training has agent.total_timesteps="
        f"{spec.total_timesteps} steps over agent.n_envs={spec.n_envs} environments"
        for key, (value, trained) in changed_by_budget(spec).items()
    ]


def as_trained(spec: AgentSpec) -> AgentSpec:
    """Return the agent with the hyperparameters in effect, which gives the same training."""
    changed = {key: trained for key, (_, trained) in changed_by_budget(spec).items()}
    return replace(spec, hyperparameters=spec.hyperparameters | changed) if changed else spec


def divide_budget(spec: AgentSpec, ratio: float) -> AgentSpec:
    """Return the agent with 1/ratio of the environment steps that its training takes.

    An on-policy agent trains whole rollouts, past `total_timesteps` where these do not divide it; so it gets
    rollouts of another length, as near to its own as the number of steps allows.
    """
    if not find_algorithm(spec.name).on_policy:
        return replace(spec, total_timesteps=max(1, round(spec.total_timesteps / ratio)))
    full = _defaults(spec) | fit_to_budget(spec)
    rollout = full["n_steps"] * spec.n_envs
    return _in_whole_rollouts(spec, full, math.ceil(spec.total_timesteps / rollout) * rollout / ratio)


def budget_of_passes(spec: AgentSpec, passes: float, bars: int) -> AgentSpec:
    """Return the agent with the environment steps of this many passes over a number of bars.

    An on-policy agent gets rollouts of another length where its own do not divide the steps.
    """
    spec = replace(spec, total_timesteps=max(round(passes * bars), spec.n_envs))
    if not find_algorithm(spec.name).on_policy:
        return spec
    return _in_whole_rollouts(spec, _defaults(spec) | fit_to_budget(spec), passes * bars)


def _in_whole_rollouts(spec: AgentSpec, full: dict[str, Any], wanted: float) -> AgentSpec:
    """Return the agent with about `wanted` steps, in rollouts as near to its own length as they allow."""
    rollout = full["n_steps"] * spec.n_envs
    fewest = max(1, math.floor(wanted / rollout))
    lengths = [
        (abs(count * steps * spec.n_envs - wanted) / wanted, abs(steps - full["n_steps"]), count, steps)
        for count in (fewest, fewest + 1)
        for steps in _lengths(wanted / count / spec.n_envs, spec.n_envs, full.get("batch_size"))
    ]
    even = [each for each in lengths if each[0] <= ROLLOUT_TOLERANCE and _is_even(each[3], spec.n_envs, full)]
    _, _, count, steps = min(even or lengths)
    hyperparameters = dict(spec.hyperparameters)
    if steps != (_defaults(spec) | hyperparameters)["n_steps"]:
        hyperparameters["n_steps"] = steps
    return replace(spec, total_timesteps=count * steps * spec.n_envs, hyperparameters=hyperparameters)


def _lengths(exact: float, n_envs: int, batch_size: int | None) -> set[int]:
    """Return rollout lengths near an exact one: the nearest, and the nearest multiples of minibatches."""
    nearest = max(2, round(exact))
    if batch_size is None:
        return {nearest}
    unit = batch_size // math.gcd(batch_size, n_envs)
    below = math.floor(exact / unit) * unit
    return {nearest} | {steps for steps in (below, below + unit) if steps >= 2}


def _is_even(steps: int, n_envs: int, full: dict[str, Any]) -> bool:
    return bool(steps * n_envs % full.get("batch_size", 1) == 0)


def _defaults(spec: AgentSpec) -> dict[str, Any]:
    return {key: hyperparameter.default for key, hyperparameter in hyperparameters_of(spec.name).items()}


def _power_of_two_within(limit: int) -> int:
    """Return the largest power of two that is at most limit, and at least 2."""
    return 1 << max(1, limit.bit_length() - 1)
