"""Trained agents: acting, saving and loading, with bit-identical actions after a reload."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import ConstantSchedule

from envs.env_state import EnvState
from envs.plain import from_plain, to_plain
from envs.policy import FusedRollout
from envs.rewards import RewardFunction
from optimize.agents import artifacts as files
from optimize.agents.engines import FUSED, LOCK_STEP
from optimize.agents.kernels.fused.rollout import fuse
from optimize.agents.registry import find_algorithm
from optimize.agents.sb3.build import policy_arguments
from optimize.agents.spec import AgentSpec, network_of
from optimize.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Agent:
    """A policy with its specification; `model` is None after loading without pickle."""

    spec: AgentSpec
    policy: BasePolicy
    model: BaseAlgorithm | None = None
    deterministic: bool = True
    reward_active_share: float | None = None  # of its training; None: no differential reward, or loaded
    trained_steps: int | None = None  # of its training in the environment; None: loaded
    sharpe_validation: float | None = None  # of its weights on the validation tail; None: none, or loaded
    fused: bool = True  # evaluated in one kernel where its networks have one

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return actions (N, A) or (N,) for observations (N, D), equal to those of the policy's `predict`."""
        policy = self.policy
        if type(policy).predict is not BasePolicy.predict:  # a recurrent policy passes its state on
            return policy.predict(observation, state, start, deterministic=self.deterministic)
        if policy.training:
            policy.set_training_mode(False)
        with torch.inference_mode():
            seen = torch.from_numpy(observation).to(policy.device)
            chosen = policy._predict(seen, deterministic=self.deterministic).cpu().numpy()
        space = policy.action_space
        action = chosen.reshape(len(observation), *(space.shape or ()))
        if isinstance(space, gymnasium.spaces.Box):
            low, high = space.low, space.high
            action = policy.unscale_action(action) if policy.squash_output else np.clip(action, low, high)
        return action, state

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout | None:
        """Return the fused rollout of this agent; None where it samples, or its networks have no kernel."""
        if not self.deterministic or not self.fused:
            return None
        return fuse(self.policy, env, reward)

    def stochastic(self, seed: int) -> Self:
        """Return this agent sampling its actions, from torch's generator seeded here."""
        torch.manual_seed(seed)
        return replace(self, deterministic=False)

    def save(self, folder: Path) -> None:
        """Write policy.safetensors, spec.json and, after training in this process, SB3's model.zip."""
        archive = None
        if self.model is not None:
            buffer = io.BytesIO()
            with np.printoptions(threshold=0, edgeitems=1):  # SB3 writes out whole spaces, for people to read
                self.model.save(buffer)
            archive = buffer.getvalue()
        files.write_files(folder, archive, self.policy.state_dict(), describe_agent(self))


def load_agent(folder: Path, device: str = "cpu") -> Agent:
    """Rebuild an agent from policy.safetensors and spec.json, without pickle."""
    description = files.read_spec(folder)
    agent = rebuild_agent(folder, description)
    files.load_weights(folder, description, agent.policy)
    agent.policy.set_training_mode(False)
    return replace(agent, policy=agent.policy.to(device))


def rebuild_agent(folder: Path, description: dict[str, Any]) -> Agent:
    """Return the agent of a description in a folder, with arbitrary weights."""
    try:
        spec = from_plain(AgentSpec, description["agent"])
        policy = _rebuild(spec.name, description)
    except (KeyError, TypeError) as error:
        raise BadInputError(f"{folder / files.SPEC} is incomplete ({error}): train the agent again") from None
    # Version 0.1 did not write the key and asked stock-trained agents bar by bar: their scores stay the same.
    former = LOCK_STEP if spec.engine == "stock" else FUSED
    return Agent(spec, policy, fused=description.get("evaluation", former) == FUSED)


def load_sb3(folder: Path) -> BaseAlgorithm:
    """Load model.zip with optimizer state; it unpickles code, so the folder must be trusted."""
    description = files.read_spec(folder)
    path = files.check_digest(folder, files.MODEL, description)
    return find_algorithm(from_plain(AgentSpec, description["agent"]).name).load().load(path, device="cpu")


def describe_agent(agent: Agent) -> dict[str, Any]:
    """Return the description from which an agent is rebuilt, as plain values."""
    spec, policy = agent.spec, agent.policy
    action = policy.action_space
    return {
        "agent": to_plain(spec),
        "policy": {
            "net_arch": network_of(spec),
            "activation": spec.activation,
            "use_sde": bool(spec.hyperparameters.get("use_sde", False)),
        },
        "observation_size": gymnasium.spaces.flatdim(policy.observation_space),
        "action": "discrete" if isinstance(action, gymnasium.spaces.Discrete) else "continuous",
        "action_size": gymnasium.spaces.flatdim(action),
        "action_low": float(action.low.min()) if isinstance(action, gymnasium.spaces.Box) else None,
        "versions": {"torch": torch.__version__, "stable_baselines3": stable_baselines3.__version__},
        "evaluation": FUSED if agent.fused else LOCK_STEP,
    }


def _rebuild(name: str, description: dict[str, Any]) -> BasePolicy:
    """Return SB3's policy of this description with arbitrary weights; torch's generator is not changed."""
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (description["observation_size"],), np.float32)
    size = description["action_size"]
    low = description.get("action_low", -1.0)  # not written before agents could be long-only
    action: gymnasium.Space[Any] = (
        gymnasium.spaces.Discrete(size)
        if description["action"] == "discrete"
        else gymnasium.spaces.Box(low, 1.0, (size,), np.float32)
    )
    layers = description["policy"]
    arguments = policy_arguments(layers["net_arch"], layers["activation"])
    if layers["use_sde"]:
        arguments["use_sde"] = True
    policy_class = find_algorithm(name).load().policy_aliases["MlpPolicy"]
    with torch.random.fork_rng(devices=[]):
        return policy_class(observation, action, ConstantSchedule(0.0), **arguments)
