"""A space may not tune the exam, name a wrong key or leave the configured default outside."""

from typing import Any

import pytest

from envs.errors import BadInputError
from optimize.search.space import lint_space, parse_space
from optimize.study.spec import StudySpec
from tests.optimize.search.specs import Agent, Feature, Study


def searchable(path: str) -> str | None:
    return "ppo has no such argument" if path == "agent.tau" else None


def nested(path: str, leaf: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        leaf = {part: leaf}
    assert isinstance(leaf, dict)
    return leaf


def lint(path: str, leaf: object, spec: Study | None = None) -> None:
    lint_space(parse_space(nested(path, leaf)), spec or Study(), searchable)


@pytest.mark.parametrize(
    ("path", "leaf"),
    [
        ("agent.learning_rate", {"low": 1e-5, "high": 1e-2}),
        ("agent.gamma", [0.9, 0.99]),  # not set in the configuration
        ("agent.net", ["small", "medium"]),  # None by default
        ("data.timeframe", ["1h", "1d"]),
        ("feature.lookback", {"low": 4, "high": 32}),
        ("env.max_leverage", {"low": 0.5, "high": 2}),
    ],
)
def test_sound_leaves_pass(path: str, leaf: object) -> None:
    lint(path, leaf)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "cost.commission_bps",
            "window.train",
            "score.repeats",
            "session.exit",
            "database.url",
            "worker.count",
        ),
        *("sampler.name", "pruner.name", "phase.name", "seed", "name", "n_trials", "output_dir"),
        *("data.path", "data.symbols", "env.fill", "agent.device", "agent.n_envs"),
    ],
)
def test_the_exam_may_not_be_tuned(path: str) -> None:
    with pytest.raises(BadInputError, match=f"space.{path} .*a space may not tune the exam"):
        lint(path, [1, 2])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("feature.lookbak", r"did you mean feature\.lookback\?"),
        ("featur.lookback", r"did you mean feature\.lookback\?"),
        ("agent.hyperparameters.n_steps", r"did you mean agent\.n_steps\?"),
        ("zzz", "allowed are such as data.timeframe, feature.lookback"),
        ("agent.tau", "may not be searched: ppo has no such argument"),
        ("agent", "is a group and no key"),
    ],
)
def test_wrong_keys_are_refused(path: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        lint(path, [1, 2])


@pytest.mark.parametrize(
    ("path", "leaf", "spec", "message"),
    [
        (
            "agent.learning_rate",
            {"low": 1e-3, "high": 1e-2},
            Study(),
            r"agent.learning_rate=0.0003.*outside its range 0.001..0.01: widen space.agent.learning_rate",
        ),
        ("agent.n_steps", [512], Study(), r"agent.n_steps=256.*choices \[512\]"),
        ("agent.net", ["small"], Study(agent=Agent(net="large")), "agent.net='large'"),
        (
            "feature.lookback",
            {"low": 4, "high": 32},
            Study(feature=Feature(lookback=64)),
            "feature.lookback=64",
        ),
        (
            "agent.ent_coef",
            {"low": 0.0, "high": 0.1},
            Study(agent=Agent(hyperparameters={"ent_coef": "auto"})),
            "agent.ent_coef='auto'",
        ),
    ],
)
def test_a_default_outside_is_refused(path: str, leaf: object, spec: Study, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        lint(path, leaf, spec)


@pytest.mark.parametrize(
    ("path", "leaf", "message"),
    [
        ("feature.lookback", {"low": 4, "high": 32.0}, "would be 4.0, but this key takes int"),
        ("feature.lookback", [8, "long"], "would be 'long'"),
        ("agent.net", ["small", 3], r"would be 3, but this key takes str \| NoneType"),
        ("data.timeframe", ["1h", None], "would be None"),
    ],
)
def test_a_wrong_type_is_refused(path: str, leaf: object, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        lint(path, leaf)


@pytest.mark.parametrize(
    ("path", "leaf", "message"),
    [
        (
            "agent.net",
            ["small", "huge"],
            r"^space\.agent\.net offers 'huge': .*'huge' is not allowed",
        ),
        ("feature.lookback", {"low": 0, "high": 8}, r"^space\.feature\.lookback offers 0: .*lookback"),
    ],
)
def test_a_value_that_a_trial_would_refuse_is_refused_at_once(path: str, leaf: object, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        lint_space(parse_space(nested(path, leaf)), StudySpec(name="a"), searchable)
