"""Bad agents are refused in one line that names the key."""

from typing import Any

import pytest

from optimize.agents.registry import ALGORITHMS, OWNED
from optimize.agents.spec import AgentSpec, check_agent, network_of
from optimize.errors import BadInputError
from tests.optimize.agents.support import shipped_spec


def _message(agent: str = "ppo", /, **hyperparameters: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        check_agent(AgentSpec(name=agent, hyperparameters=hyperparameters))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ALGORITHMS)
def test_shipped_agents_pass(name: str) -> None:
    check_agent(shipped_spec(name))


def test_unknown_agent_lists_the_registry() -> None:
    message = _message("a2z")
    assert "agent.name='a2z'" in message
    assert all(name in message for name in ALGORITHMS)


def test_unknown_hyperparameter_names_close_matches() -> None:
    assert _message(learning_rat=0.1) == (
        "agent.learning_rat is not an argument of ppo: did you mean learning_rate?"
    )
    assert "choose from activation" in _message(zzz=1)
    assert "agent.clip_range is not" in _message("sac", clip_range=0.2)


@pytest.mark.parametrize("key", OWNED)
def test_owned_arguments_are_refused(key: str) -> None:
    assert _message("ppo", **{key: 1}).startswith(f"agent.{key} cannot be set")


@pytest.mark.parametrize("key", ["rollout_buffer_class", "rollout_buffer_kwargs"])
def test_arguments_that_take_objects_are_refused(key: str) -> None:
    assert f"agent.{key} is not" in _message("ppo", **{key: {}})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("learning_rate", "abc", "a number"),
        ("learning_rate", "3e-4", "a number, without quotes"),
        ("learning_rate", 0, "above 0"),
        ("learning_rate", -0.1, "above 0"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", True, "a number"),
        ("learning_rate", None, "a number"),
        ("learning_rate", [0.1], "a number"),
        ("gamma", 1.01, "from 0 to 1"),
        ("gamma", -0.1, "from 0 to 1"),
        ("gae_lambda", 1.5, "from 0 to 1"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 1, "at least 2"),
        ("batch_size", 64.0, "a whole number"),
        ("n_steps", 0, "at least 1"),
        ("n_epochs", 0, "at least 1"),
        ("clip_range", 0.0, "above 0"),
        ("target_kl", -1.0, "above 0"),
        ("ent_coef", -0.1, "at least 0"),
        ("use_sde", 1, "true or false"),
    ],
)
def test_wrong_type_and_range(key: str, value: object, allowed: str) -> None:
    message = _message("ppo", **{key: value})
    assert message.startswith(f"agent.{key}=")
    assert allowed in message


def test_entropy_of_sac_may_be_learned() -> None:
    for value in ("auto", "auto_0.1", 0.2):
        check_agent(AgentSpec(name="sac", hyperparameters={"ent_coef": value}))
    for value in ("automatic", "auto_", "auto_0.0", "auto_-1", "0.1"):
        assert "'auto'" in _message("sac", ent_coef=value)


def test_a_target_entropy_is_no_start_to_learn_from() -> None:
    for value in ("auto", -0.5):
        check_agent(AgentSpec(name="sac", hyperparameters={"target_entropy": value}))
    assert "must be a number or 'auto'" in _message("sac", target_entropy="auto_0.5")


def test_null_is_allowed_where_the_constructor_takes_it() -> None:
    check_agent(AgentSpec(hyperparameters={"target_kl": None, "clip_range_vf": 0.2}))


def test_off_policy_ranges() -> None:
    assert "agent.gradient_steps=0" in _message("sac", gradient_steps=0)
    assert "agent.policy_delay=0 is not allowed" in _message("td3", policy_delay=0)
    assert "agent.target_policy_noise=-1" in _message("td3", target_policy_noise=-1)
    assert "agent.exploration_final_eps=2" in _message("dqn", exploration_final_eps=2)
    with pytest.raises(BadInputError, match=r"agent.target_update_interval=4 .* agent.n_envs=8"):
        check_agent(AgentSpec(name="dqn", n_envs=8, hyperparameters={"target_update_interval": 4}))


def test_a_discount_of_zero_is_a_decision_of_one_step() -> None:
    for name in ALGORITHMS:
        check_agent(AgentSpec(name=name, hyperparameters={"gamma": 0}))


def test_no_layer_is_a_linear_policy() -> None:
    with pytest.raises(BadInputError, match=r"agent.net=\[\] has no layers: agent.net=linear is the policy"):
        AgentSpec(net=[])
    assert [network_of(AgentSpec(name=name, net="linear")) for name in ("ppo", "dqn")] == [[], []]
    for name in ("sac", "td3"):  # a linear critic has the same best action in every state
        assert network_of(AgentSpec(name=name, net="linear")) == {"pi": [], "qf": [64, 64]}
        assert network_of(AgentSpec(name=name, net=[8])) == [8]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("total_timesteps", 0),
        ("weight_decay", -0.1),
        ("n_envs", 0),
        ("net", "huge"),
        ("activation", "gelu"),
        ("device", "tpu"),
        ("device", "cuda:x"),
    ],
)
def test_spec_fields(field: str, value: Any) -> None:
    with pytest.raises(BadInputError, match=f"agent.{field}="):
        AgentSpec(**{field: value})
