"""Check whether training must first compile its kernels on this machine."""

from envs.compiled import market_kernels_missing
from optimize.agents.kernels.bindings import training_kernels_missing
from optimize.agents.registry import find_algorithm
from optimize.agents.spec import AgentSpec


def must_compile_first(spec: AgentSpec, engine: str, reward: str) -> bool:
    """Return whether training with an engine and a reward must first compile kernels, once a machine."""
    if engine != "compiled" or market_kernels_missing():
        return market_kernels_missing()
    if find_algorithm(spec.name).on_policy:
        return training_kernels_missing(f"{spec.name}.", f"rollout.run_steps_{reward}-")
    return training_kernels_missing(f"loop.run_rollouts_{spec.name}_{reward}-")
