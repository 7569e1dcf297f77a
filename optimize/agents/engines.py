"""Choice of the training engine: compiled if it supports the agent, else stock stable-baselines3."""

from typing import NamedTuple

from optimize.agents.registry import ALGORITHMS, find_algorithm
from optimize.agents.spec import FORMER_ENGINES, AgentSpec
from optimize.errors import BadInputError

FUSED = "fused"  # the trained policy runs whole test spans in one kernel where it can
LOCK_STEP = "lock_step"  # it is asked bar by bar, as version 0.1 did for stock-trained agents


class Engine(NamedTuple):
    """An engine and the reason for it; chosen once a trial, passed on and stored with the run."""

    name: str  # compiled or stock
    reason: str  # a clause
    evaluation: str = FUSED

    def __str__(self) -> str:
        """Return the text that a run stores."""
        return f"{self.name}, for {self.reason}"


def local_engine(spec: AgentSpec) -> Engine:
    """Return the engine that trains an agent in this process, on the device that agent.device comes to."""
    from optimize.agents.devices import device_type  # loads torch, which only a training needs

    return choose_engine(spec, device_type(spec.device))


def choose_engine(spec: AgentSpec, device: str | None = None) -> Engine:
    """Return the engine of an agent; raise BadInputError where the one asked for cannot train it.

    `device` is the resolved agent.device, cpu or cuda; if it is not known yet, auto counts as cpu.
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


def _obstacle(spec: AgentSpec, device: str) -> str | None:
    """Return the property of an agent that the compiled engine does not support, or None."""
    if not find_algorithm(spec.name).compiled:
        able = [name for name, algorithm in ALGORITHMS.items() if algorithm.compiled]
        return f"agent.name={spec.name!r} is not compiled, only {', '.join(able)}"
    if spec.hyperparameters.get("use_sde"):
        return "agent.use_sde=true is not compiled"
    if not device.startswith(("cpu", "auto")):
        return f"agent.device={device} is not the CPU"
    return None
