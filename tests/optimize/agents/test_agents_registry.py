"""The registry before and after stable-baselines3 is loaded."""

import subprocess
import sys

import pytest

from envs.fields import keys_of
from optimize.agents.registry import ALGORITHMS, action_of, searchable_keys, unsearchable
from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError


def test_action_follows_the_agent() -> None:
    assert [action_of(name) for name in ("ppo", "sac", "dqn")] == ["continuous", "continuous", "discrete"]
    assert action_of("ppo", "discrete") == "discrete"


def test_mismatched_action_names_the_remedy() -> None:
    with pytest.raises(BadInputError, match=r"env.action='continuous' .*'dqn'.*env.action=auto.*ppo, sac"):
        action_of("dqn", "continuous")
    with pytest.raises(BadInputError, match=r"env.action='wild'"):
        action_of("ppo", "wild")


def test_settings_of_the_exam_and_the_machine_are_not_searchable() -> None:
    keys = keys_of(AgentSpec)
    for key in ("name", "total_timesteps", "n_envs", "device", "engine"):
        assert keys[key].unsearchable, key
        assert key not in searchable_keys("ppo")
    for key in ("seed", "verbose"):
        assert unsearchable(key), key
    assert keys["learning_rate"].unsearchable is None
    assert unsearchable("net") is None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_searchable_keys(name: str) -> None:
    keys = searchable_keys(name)
    assert {"net", "activation", "weight_decay", "learning_rate", "gamma"} <= keys
    assert ("batch_size" in keys) is (name != "a2c")
    assert ("clip_range" in keys) is (name == "ppo")
    assert not {"policy", "env", "rollout_buffer_class", "replay_buffer_kwargs"} & keys


def test_registry_and_spec_do_not_import_torch() -> None:
    code = (
        "import sys, optimize.agents.registry, optimize.agents.spec;raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
