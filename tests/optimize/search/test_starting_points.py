"""Parameter sets to start from: reading, refusals, and the values that are drawn for missing keys."""

import pytest

from envs.fields import keys_of
from optimize.errors import BadInputError
from optimize.search.space import parse_space
from optimize.search.starting_points import complete_set, read_sets, typed_values
from optimize.study.spec import StudySpec

SPACE = parse_space(
    {
        "agent": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "n_steps": [16, 32]},
        "reward": {
            "name": ["net_log_return", "differential_sharpe"],
            "decay": {"low": 0.001, "high": 0.1, "when": {"reward.name": ["differential_sharpe"]}},
        },
        "feature": {"indicators": [["rsi"], ["rsi", "adx"]]},
    }
)
KEYS = keys_of(StudySpec)


def test_flat_sets_and_trees_are_read_alike_and_text_becomes_a_number() -> None:
    flat = read_sets([{"agent.learning_rate": "1e-3", "agent.n_steps": 32.0}], SPACE, KEYS)
    tree = read_sets([{"agent": {"learning_rate": 0.001, "n_steps": 32}}], SPACE, KEYS)
    assert flat == tree == [{"agent.learning_rate": 0.001, "agent.n_steps": 32}]
    assert type(flat[0]["agent.n_steps"]) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"agent.gamma": 0.9}, r"search.enqueue\[0\]: agent.gamma is not a parameter of the space"),
        ({}, r"search.enqueue\[0\] is empty: give .* such as {agent.learning_rate: VALUE}, or leave"),
        ({"agent": {}}, r"search.enqueue\[0\]: agent is not a parameter of the space"),
        ({"agent": {}, "agent.n_steps": 16}, r"search.enqueue\[0\]: agent is not a parameter of the space"),
        ({"agent.learning_rate": 0.5}, "is not a number from 0.0001 to 0.01"),
        ({"agent.learning_rate": True}, "is not a number"),
        ({"agent.n_steps": 48}, r"is not one of the choices \[16, 32\]"),
        ({"feature.indicators": ["macd"]}, "is not one of the choices"),
        ({"reward.name": "net_log_return", "reward.decay": 0.01}, "reward.decay is searched where"),
    ],
)
def test_a_wrong_set_is_refused_by_its_place_and_parameter(given: dict[str, object], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_sets([given], SPACE, KEYS)


def test_the_same_set_twice_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"search.enqueue\[1\] is the same set as search.enqueue\[0\]"):
        read_sets([{"agent.n_steps": 16}, {"agent": {"n_steps": 16}}], SPACE, KEYS)


def test_missing_keys_are_drawn_alike_for_one_seed_and_otherwise_for_another() -> None:
    partial = {"reward.name": "differential_sharpe", "feature.indicators": ["rsi", "adx"]}
    given = read_sets([partial], SPACE, KEYS)
    first = complete_set(SPACE, given[0], [7, 0])
    assert first == complete_set(SPACE, given[0], [7, 0]) != complete_set(SPACE, given[0], [7, 1])
    assert first.keys() == {each.path for each in SPACE.parameters}
    assert typed_values(SPACE, first)["feature.indicators"] == ["rsi", "adx"]
