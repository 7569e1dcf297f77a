"""A key that is typed although the space searches it is named, with the word that keeps its value."""

from optimize.cli.typed_keys import searched_words


def test_a_typed_key_that_is_searched_is_named() -> None:
    words = ["name=x", "feature.lookback=4", "agent.n_envs=2", "space.agent.gamma=[0.9]", "+agent.gamma=0.9"]
    (line,) = searched_words(words, {"feature.lookback", "agent.gamma"})
    assert line == (
        "feature.lookback=4 is searched, for the space lists it: "
        "space.feature.lookback=null keeps 4 in every trial"
    )


def test_other_keys_are_not_named() -> None:
    assert searched_words(["name=x", "feature.lookback=4"], {"agent.gamma"}) == []
