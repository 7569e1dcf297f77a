"""Spaces on the command line: text is refused, and the words of each refusal's remedy compose a study."""

import shlex

import pytest

from optimize import compose
from optimize.errors import BadInputError
from optimize.search.rules import check_space
from optimize.search.samplers import check_sampler
from optimize.search.space import parse_space

BASE = ["name=x", "data=synthetic"]


def _launch(words: list[str]) -> None:
    """Compose a study and check its space like a launch."""
    spec = compose("study", [*BASE, *words])
    space = parse_space(spec.space)
    check_space(spec, space)
    check_sampler(spec.sampler, space)
    assert space.parameters


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        (["~space", '+space="{feature: {lookback: [1,8]}}"'], "adds text and no tree"),
        (["~space", "+space='{feature: {lookback: [1,8]}}'"], "adds text and no tree"),
        (["~space", "+space={feature: {lookback: [1=8]}}"], "a tree with one key a level"),
        (["sampler=grid"], "sampler=grid tries"),
        (["sampler=cmaes", "space.agent.net=[linear,medium]"], "sampler=cmaes searches"),
    ],
)
def test_a_wrong_space_is_refused_with_words_that_work(typed: list[str], problem: str) -> None:
    with pytest.raises(BadInputError, match=problem) as refused:
        _launch(typed)
    message = str(refused.value)
    assert "\n" not in message
    remedy = shlex.split(message[message.index("'~space'") :].replace("', or", "' or"))
    _launch([word for word in typed if word.startswith("sampler")] + [w for w in remedy if "space" in w])


def test_text_that_names_no_file_of_spaces_is_refused() -> None:
    for typed in (["space=nothing"], ["~space", "+space=nothing"]):
        with pytest.raises(BadInputError, match=r"space=.?nothing"):
            compose("study", [*BASE, *typed])
