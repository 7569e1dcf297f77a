"""A key that changes nothing of a trial may not be searched."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.vector import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError
from optimize.search.space import lint_space, parse_space
from optimize.study.runner import run_study
from optimize.study.searchable import why_unsearchable
from optimize.study.spec import StudySpec, resolve
from tests.optimize.study.studies import small_spec

BARS, SESSION = EnvSpec(episode="bars"), EnvSpec(episode="session")
CLIP = {"low": 5.0, "high": 20.0}
PENALTY = {"choices": [0.5, 1.0], "when": {"reward.name": ["drawdown_penalised"]}}


def refusal(spec: StudySpec) -> str | None:
    """Return why the space is refused, or None."""
    try:
        lint_space(parse_space(spec.space), spec, lambda path: why_unsearchable(spec, path))
    except BadInputError as error:
        return str(error)
    return None


def rewards(*names: str, **keys: Any) -> dict[str, Any]:
    return {"reward": {"name": list(names), **keys}}


@pytest.mark.parametrize(
    ("env", "space", "words"),
    [
        (BARS, {"env": {"rebalance_band": [0.01, 0.05]}}, None),
        (BARS, {"env": {"episode_bars": [128, 512]}}, None),
        (SESSION, {"env": {"episode_bars": [128, 512]}}, "env.episode=session makes every episode one whole"),
        (SESSION, {"env": {"episode": ["session"], "episode_bars": [128, 512]}}, "one whole session"),
        (BARS, {"env": {"episode": ["bars", "session"], "episode_bars": [128, 512]}}, None),
        (BARS, {"reward": {"clip": CLIP}}, "set reward=differential_sharpe or reward=differential_downside"),
        (BARS, rewards("net_log_return", "differential_sharpe", clip=CLIP), None),
        (
            BARS,
            rewards("net_log_return", "drawdown_penalised", clip=CLIP),
            "reward=net_log_return or drawdown_penalised reads drawdown_penalty; search it when: "
            "{reward.name: [differential_sharpe, differential_downside]}",
        ),
        (BARS, rewards("net_log_return", "drawdown_penalised", drawdown_penalty=PENALTY), None),
        (
            BARS,
            rewards("net_log_return", "drawdown_penalised", clip=CLIP | {"when": PENALTY["when"]}),
            "reward=drawdown_penalised reads drawdown_penalty; search it when",
        ),
    ],
)
def test_a_key_that_nothing_reads_is_refused(
    tmp_path: Path, env: EnvSpec, space: dict[str, Any], words: str | None
) -> None:
    said = refusal(small_spec(tmp_path, env=env, space=space))
    assert said is None if words is None else words in str(said)


@pytest.mark.parametrize("action", ["discrete", "auto"])
def test_a_band_is_not_searched_where_actions_are_discrete(tmp_path: Path, action: str) -> None:
    agent = AgentSpec("dqn") if action == "auto" else AgentSpec("ppo")
    spec = small_spec(tmp_path, space={"env": {"rebalance_band": [0.01, 0.05]}})
    discrete = resolve(dataclasses.replace(spec, agent=agent, env=EnvSpec(action=action)))
    assert "discrete actions trade on every change" in str(refusal(discrete))
    with pytest.raises(BadInputError, match=r"set env\.action=continuous"):
        run_study(discrete, Console(quiet=True))
    assert not list(tmp_path.iterdir())
