"""Which engine trains an agent: the compiled one where it can, else stable-baselines3 as it comes."""

from typing import TYPE_CHECKING, NamedTuple

from optimize.agents.registry import ALGORITHMS, GRAPHED, find_algorithm
from optimize.errors import BadInputError

if TYPE_CHECKING:
    from optimize.agents.spec import AgentSpec

ENGINES = ("auto", "compiled", "graphed", "stock")


class Engine(NamedTuple):
    """An engine and the reason for it."""

    name: str  # compiled, graphed or stock
    why: str  # a clause


def choose_engine(spec: "AgentSpec", device: str | None = None) -> Engine:
    """Return the engine of an agent; BadInputError where the one asked for cannot train it.

    `device` is what agent.device came to, cpu or cuda; while that is not known, auto counts as cpu.
    """
    if spec.engine == "stock":
        return Engine("stock", "agent.engine=stock asks for it")
    if spec.engine == "graphed":
        return _choose_graphed(spec)
    if (reason := _obstacle(spec, device or spec.device)) is None:
        return Engine("compiled", "there are kernels for its networks on a CPU")
    if spec.engine == "compiled":
        raise BadInputError(
            f"agent.engine='compiled' cannot be used: {reason}; set agent.engine=auto or stock"
        )
    return Engine("stock", reason)


def _choose_graphed(spec: "AgentSpec") -> Engine:
    reason = "agent.use_sde=true is not graphed" if spec.hyperparameters.get("use_sde") else None
    if spec.name not in GRAPHED:
        reason = f"agent.name={spec.name!r} is not graphed, only {', '.join(GRAPHED)}"
    if reason is not None:
        raise BadInputError(
            f"agent.engine='graphed' cannot be used: {reason}; set agent.engine=auto or stock"
        )
    return Engine("graphed", "agent.engine=graphed asks for it")


def _obstacle(spec: "AgentSpec", device: str) -> str | None:
    """Return what the compiled engine cannot do of an agent, or None."""
    if not find_algorithm(spec.name).compiled:
        able = [name for name, algorithm in ALGORITHMS.items() if algorithm.compiled]
        return f"agent.name={spec.name!r} is not compiled, only {', '.join(able)}"
    if spec.hyperparameters.get("use_sde"):
        return "agent.use_sde=true is not compiled"
    if not device.startswith(("cpu", "auto")):
        return f"agent.device={device} is not the CPU"
    return None
