"""Which engine trains an agent: the compiled one where it can, else stable-baselines3 as it comes."""

from typing import TYPE_CHECKING, NamedTuple

from optimize.agents.registry import ALGORITHMS, find_algorithm
from optimize.errors import BadInputError

if TYPE_CHECKING:
    from optimize.agents.spec import AgentSpec

ENGINES = ("auto", "compiled", "stock")
FORMER_ENGINES = ("graphed",)  # of stored agents, which are still evaluated


class Engine(NamedTuple):
    """An engine and the reason for it."""

    name: str  # compiled or stock
    why: str  # a clause


def choose_engine(spec: "AgentSpec", device: str | None = None) -> Engine:
    """Return the engine of an agent; BadInputError where the one asked for cannot train it.

    `device` is what agent.device came to, cpu or cuda; while that is not known, auto counts as cpu.
    """
    if spec.engine == "stock":
        return Engine("stock", "agent.engine=stock asks for it")
    if spec.engine in FORMER_ENGINES:
        raise BadInputError(
            f"agent.engine={spec.engine!r} trains no longer: set agent.engine=auto or stock (a study with "
            "trials keeps its engine, so choose another name for it)"
        )
    if (reason := _obstacle(spec, device or spec.device)) is None:
        return Engine("compiled", "there are kernels for its networks on a CPU")
    if spec.engine == "compiled":
        raise BadInputError(
            f"agent.engine='compiled' cannot be used: {reason}; set agent.engine=auto or stock"
        )
    return Engine("stock", reason)


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
