"""A saved agent comes back acting the same, or with one clear error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimize.agents.agent import Agent, load_agent, load_sb3
from optimize.agents.registry import ALGORITHMS
from optimize.errors import BadInputError
from tests.optimize.agents.support import probe_observations, same_weights, small_spec, train_small
from tests.tiers import mostly_slow

ACT = """
import sys, zipfile, pickle, numpy as np
from pathlib import Path
from optimize.agents.agent import load_agent
from optimize.agents.threads import limit_threads
limit_threads(1)
for folder in map(Path, sys.argv[1:]):
    observation = np.load(folder / "observation.npy")
    action, _ = load_agent(folder).act(observation, None, np.zeros(len(observation), dtype=bool))
    np.save(folder / "action.npy", action)
"""


def _act(agent: Agent) -> np.ndarray[Any, Any]:
    observation = probe_observations(agent)
    return agent.act(observation, None, np.zeros(len(observation), dtype=bool))[0]


@pytest.mark.slow
def test_a_fresh_process_acts_identically_without_pickle(tmp_path: Path) -> None:
    agents = {name: train_small(small_spec(name)) for name in ALGORITHMS}
    for name, agent in agents.items():
        agent.save(tmp_path / name)
        (tmp_path / name / "model.zip").unlink()  # so nothing can be unpickled
        np.save(tmp_path / name / "observation.npy", probe_observations(agent))
    subprocess.run(
        [sys.executable, "-W", "error", "-c", ACT, *(tmp_path / name for name in agents)], check=True
    )
    for name, agent in agents.items():
        action = np.load(tmp_path / name / "action.npy")
        np.testing.assert_array_equal(action, _act(agent))
        assert agent.model is not None
        np.testing.assert_array_equal(
            action, agent.model.predict(probe_observations(agent), deterministic=True)[0]
        )
        assert len(np.unique(action)) > 1 or name == "dqn"


@pytest.mark.parametrize(
    ("name", "changes"),
    mostly_slow(
        [(name, changes) for changes in ({}, {"net": "linear", "weight_decay": 0.1}) for name in ALGORITHMS],
        ("ppo", {}),
        ("td3", {"net": "linear", "weight_decay": 0.1}),
    ),
)
def test_both_forms_hold_the_same_weights(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    agent = train_small(small_spec(name, **changes))
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert same_weights(loaded, agent)
    assert loaded.spec == agent.spec
    model = load_sb3(tmp_path)
    np.testing.assert_array_equal(
        model.predict(probe_observations(agent), deterministic=True)[0], _act(loaded)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.zip",
        "policy.safetensors",
        "spec.json",
    ]


@pytest.mark.slow
def test_state_dependent_exploration_survives(tmp_path: Path) -> None:
    agent = train_small(small_spec("sac", use_sde=True))
    agent.save(tmp_path)
    np.testing.assert_array_equal(_act(load_agent(tmp_path)), _act(agent))


def test_a_loaded_agent_is_saved_again_without_the_archive(tmp_path: Path) -> None:
    agent = train_small(small_spec("ppo"))
    agent.save(tmp_path / "first")
    load_agent(tmp_path / "first").save(tmp_path / "second")
    assert same_weights(load_agent(tmp_path / "second"), agent)
    with pytest.raises(BadInputError, match=r"model.zip is missing"):
        load_sb3(tmp_path / "second")


@pytest.mark.parametrize(("engine", "fused"), [("stock", False), ("compiled", True), ("graphed", True)])
def test_an_agent_of_version_0_1_is_evaluated_as_it_was_then(
    engine: str, fused: bool, tmp_path: Path
) -> None:
    train_small(small_spec("ppo", engine="stock")).save(tmp_path)
    assert load_agent(tmp_path).fused
    path = tmp_path / "spec.json"
    description = json.loads(path.read_text())
    assert description.pop("evaluation") == "fused"
    description["agent"]["engine"] = engine
    path.write_text(json.dumps(description))
    old = load_agent(tmp_path)
    assert old.fused is fused
    old.save(tmp_path / "again")  # as an export does
    assert load_agent(tmp_path / "again").fused is fused


def test_loading_leaves_the_generator_alone(tmp_path: Path) -> None:
    train_small(small_spec("ppo")).save(tmp_path)
    before = torch.get_rng_state()
    load_agent(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("agent")
    train_small(small_spec("ppo")).save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def test_damaged_files_are_refused(saved: dict[str, bytes], tmp_path: Path) -> None:
    spec = json.loads(saved["spec.json"])
    other_net = spec | {"policy": spec["policy"] | {"net_arch": [16, 16]}}
    incomplete = {key: value for key, value in spec.items() if key != "action"}
    flipped = saved["policy.safetensors"][:-1] + b"\x01"
    cases: list[tuple[str, bytes | None, str]] = [
        ("policy.safetensors", flipped, "SHA-256 differs"),
        ("policy.safetensors", None, "policy.safetensors is missing"),
        ("spec.json", None, "holds no agent"),
        ("spec.json", b"{", "is damaged"),
        ("spec.json", b"[]", "is not an agent specification"),
        ("spec.json", json.dumps(spec | {"format": 99}).encode(), "is not an agent specification"),
        ("spec.json", json.dumps(incomplete).encode(), "is incomplete"),
        ("spec.json", json.dumps(other_net).encode(), "has shape"),
    ]
    for number, (name, content, message) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = {key: value for key, value in saved.items() if key != name}
        _write(folder, files if content is None else files | {name: content})
        with pytest.raises(BadInputError, match=message) as caught:
            load_agent(folder)
        assert "\n" not in str(caught.value)


def test_a_changed_archive_is_never_unpickled(saved: dict[str, bytes], tmp_path: Path) -> None:
    folder = _write(tmp_path, saved | {"model.zip": saved["model.zip"] + b"\0"})
    with pytest.raises(BadInputError, match=r"model.zip .*SHA-256 differs"):
        load_sb3(folder)
