"""An ensemble: the mean target of several agents that see the same observation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from envs.env_state import EnvState
from envs.policy import FusedRollout
from envs.rewards import RewardFunction
from optimize.agents import artifacts as files
from optimize.agents.agent import Agent, describe_agent, load_agent, rebuild_agent
from optimize.errors import BadInputError

ENSEMBLE = "ensemble"  # key of spec.json with the description of each member


@dataclass(frozen=True, eq=False)
class Ensemble(Agent):
    """Agents whose targets are averaged; spec and policy are those of the first member."""

    members: tuple[Agent, ...] = ()

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return the mean of the members' targets (N, A), each scaled to a sum of |weights| of at most 1."""
        targets = [member.act(observation, None, start)[0].astype(np.float64) for member in self.members]
        held = [target / np.maximum(1.0, np.abs(target).sum(axis=1, keepdims=True)) for target in targets]
        return np.mean(held, axis=0).astype(np.float32), state

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout | None:
        """Return None: there is no kernel for a mean of networks."""
        return None

    def stochastic(self, seed: int) -> Self:
        """Return the ensemble with each member sampling its actions, from torch's generator seeded here."""
        torch.manual_seed(seed)
        sampling = tuple(replace(member, deterministic=False) for member in self.members)
        return replace(self, members=sampling, deterministic=False)

    def save(self, folder: Path) -> None:
        """Write policy.safetensors with the weights of all members, and spec.json."""
        weights = {
            f"{index}.{name}": tensor
            for index, member in enumerate(self.members)
            for name, tensor in member.policy.state_dict().items()
        }
        described = [describe_agent(member) for member in self.members]
        files.write_files(folder, None, weights, described[0] | {ENSEMBLE: described})


def join_agents(members: Sequence[Agent]) -> Ensemble:
    """Return the ensemble of agents with continuous actions; refuse discrete ones."""
    first = members[0]
    if any(describe_agent(member)["action"] != "continuous" for member in members):
        raise BadInputError(
            "ensemble: a mean of discrete actions is not one of them: search with env.action=continuous, or "
            "export without ensemble"
        )
    return Ensemble(first.spec, first.policy, fused=False, members=tuple(members))


def load_member_or_ensemble(folder: Path, device: str = "cpu") -> Agent:
    """Load an agent or an ensemble from policy.safetensors and spec.json, without pickle."""
    description = files.read_spec(folder)
    described = description.get(ENSEMBLE)
    if described is None:
        return load_agent(folder, device)
    whole = isinstance(described, list) and described and all(isinstance(each, dict) for each in described)
    if not whole:
        raise BadInputError(f"{folder / files.SPEC} lists no members of its ensemble: export it again")
    members = [rebuild_agent(folder, each) for each in described]
    files.load_weights(folder, description, torch.nn.ModuleList([member.policy for member in members]))
    for member in members:
        member.policy.set_training_mode(False)
    return join_agents([replace(member, policy=member.policy.to(device)) for member in members])
