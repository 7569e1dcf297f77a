"""A key that is typed although the space searches it is named, with the word that keeps its value."""

from optimize.cli.typed_keys import phase_words, searched_words
from optimize.search.spec import TimeframePhaseSpec


def test_a_typed_key_that_is_searched_is_named() -> None:
    words = ["name=x", "feature.lookback=4", "agent.n_envs=2", "space.agent.gamma=[0.9]", "+agent.gamma=0.9"]
    (line,) = searched_words(words, {"feature.lookback", "agent.gamma"})
    assert line == (
        "feature.lookback=4 is searched, for the space lists it: "
        "space.feature.lookback=null keeps 4 in every trial"
    )


def test_other_keys_are_not_named() -> None:
    assert searched_words(["name=x", "feature.lookback=4"], {"agent.gamma"}) == []


def test_a_key_that_phase_1_searches_is_answered_by_the_key_of_the_phase() -> None:
    words = ["name=x", "space.feature.lookback=[2,3]", "+space.data.timeframe=[2h]", "data.timeframe=1h"]
    phase = TimeframePhaseSpec(n_trials=8, timeframes=["2h", "4h"], lookbacks=[1, 8])
    assert phase_words(words, phase) == [
        "space.feature.lookback=[2,3] is not what a study of two phases tries: phase 1 searches "
        "phase.timeframe.lookbacks=[1,8]; set that key",
        "space.data.timeframe=[2h] is not what a study of two phases tries: phase 1 searches "
        "phase.timeframe.timeframes=[2h,4h]; set that key",
        "data.timeframe=1h is not what a study of two phases tries: phase 1 searches "
        "phase.timeframe.timeframes=[2h,4h]; set that key",
    ]
    assert phase_words(["name=x", "agent=ppo", "data.timeframe=4h", "space.agent.gamma=[0.9]"], phase) == []
