"""What a machine has yet to compile before it trains."""

from envs.compiled import kernels_missing as market_missing
from optimize.agents.compiled.kernels import kernels_missing
from optimize.agents.registry import find_algorithm
from optimize.agents.spec import AgentSpec


def compiles_first(spec: AgentSpec, engine: str, reward: str) -> bool:
    """Say whether training on an engine for a reward begins with compiling kernels, which are then kept."""
    if engine != "compiled" or market_missing():
        return market_missing()
    if find_algorithm(spec.name).on_policy:
        return kernels_missing(f"{spec.name}_update.", f"rollout.play_{reward}-")
    return kernels_missing(f"off_policy_loop.play_{spec.name}_{reward}-")
