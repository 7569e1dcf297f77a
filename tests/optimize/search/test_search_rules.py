"""A key that changes nothing of a trial may not be searched."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.spec import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError
from optimize.search.rules import budget_conflicts, check_space, sufficient_budget, unread_keys
from optimize.search.space import SearchSpace, parse_space
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec, resolve
from tests.optimize.study.studies import small_spec

BARS, SESSION = EnvSpec(episode="bars"), EnvSpec(episode="session")
CLIP = {"low": 5.0, "high": 20.0}
PENALTY = {"choices": [0.5, 1.0], "when": {"reward.name": ["drawdown_penalised"]}}


def refusal(spec: StudySpec) -> str | None:
    """Return why the space is refused, or None."""
    try:
        check_space(spec, parse_space(spec.space))
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
            "reward=net_log_return or drawdown_penalised reads scale, drawdown_penalty; search it when: "
            "{reward.name: [differential_sharpe, differential_downside]}",
        ),
        (BARS, rewards("net_log_return", "drawdown_penalised", drawdown_penalty=PENALTY), None),
        (
            BARS,
            rewards("net_log_return", "drawdown_penalised", clip=CLIP | {"when": PENALTY["when"]}),
            "reward=drawdown_penalised reads drawdown_penalty, scale; search it when",
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


@pytest.mark.parametrize(
    ("name", "space", "words"),
    [
        ("ppo", {"agent": {"gamma": [None, 0.99]}}, r"space.agent.gamma offers None: agent.gamma=None"),
        (
            "ppo",
            {"agent": {"batch_size": [32, "big"]}},
            "offers 'big': agent.batch_size='big' is not allowed",
        ),
        ("ppo", {"agent": {"batch_size": [32, 1]}}, "offers 1: agent.batch_size=1"),
        ("ppo", {"agent": {"gamma": {"low": 0.9, "high": 1.5}}}, "offers 1.5: agent.gamma=1.5"),
        ("ppo", {"agent": {"n_steps": {"low": 16, "high": 64.0}}}, "offers 16.0: agent.n_steps=16.0"),
        ("ppo", {"agent": {"normalize_advantage": [0, 1]}}, "must be true or false"),
        ("ppo", {"agent": {"target_kl": [None, 0.02]}}, None),
        ("sac", {"agent": {"ent_coef": ["auto", 0.1]}}, None),
        ("sac", {"agent": {"ent_coef": ["auto", "self"]}}, "offers 'self'"),
        ("ppo", {"agent": {"gamma": [[0.9], [0.99]]}}, r"offers \[0.9\]"),
        ("ppo", {"feature": {"indicators": {"low": 1, "high": 100}}}, r"a range, but this key takes a list"),
        (
            "ppo",
            {"feature": {"indicators": ["returns", "rsi"]}},
            r"takes a list.*indicators: \[\[a\], \[a, b\]\]",
        ),
        ("ppo", {"feature": {"indicators": [["returns"], ["rsi", "rsi"]]}}, "without repeats"),
        ("ppo", {"feature": {"indicators": [["returns"], ["rsi", "adx"]]}}, None),
        ("ppo", {"feature": {"higher_timeframes": [[], ["4h"]]}}, None),
        ("ppo", {"feature": {"groups": [[], ["price"]]}}, None),
        ("ppo", {"feature": {"select": [0, 4], "forecast": ["none", "ridge"], "horizon": [1, 4]}}, None),
        ("ppo", {"feature": {"select": {"low": 0, "high": 8}}}, None),
        ("ppo", {"feature": {"forecast": ["none", "rigde"]}}, "offers 'rigde'.*one of none, ridge"),
        ("ppo", {"feature": {"groups": [[], ["volume"]]}}, r"groups offers \['volume'\].*no column is in"),
        (
            "ppo",
            {"feature": {"groups": [[], ["trend"]], "indicators": [["returns", "adx"], ["returns"]]}},
            r"groups offers \['trend'\].*no column is in the group trend",
        ),
    ],
)
def test_every_choice_is_tried_on_the_configuration(
    tmp_path: Path, name: str, space: dict[str, Any], words: str | None
) -> None:
    agent = AgentSpec(name, n_envs=2)
    said = refusal(resolve(dataclasses.replace(small_spec(tmp_path), agent=agent, space=space)))
    assert said is None if words is None else re.search(words, str(said)), said


def conflicts(tmp_path: Path, agent: AgentSpec, **keys: Any) -> list[str]:
    return budget_conflicts(*budgeted(tmp_path, agent, **keys))


def budgeted(tmp_path: Path, agent: AgentSpec, **keys: Any) -> tuple[StudySpec, SearchSpace]:
    space = {"agent": {key: value for key, value in keys.items() if key != "timeframe"}}
    space |= {"data": {"timeframe": keys["timeframe"]}} if "timeframe" in keys else {}
    spec = dataclasses.replace(small_spec(tmp_path), agent=agent, space=space)
    return spec, parse_space(space)


SAC = AgentSpec("sac", total_timesteps=1500, n_envs=1)


@pytest.mark.parametrize(
    ("agent", "keys", "words"),
    [
        (
            SAC,
            {"learning_starts": [1000, 2000]},
            "offers 1000 and 2000, but a training of 1500 steps at 1h works with 750$",
        ),
        (SAC, {"learning_starts": {"low": 10, "high": 1000}}, "offers 1000"),
        (SAC, {"learning_starts": [100, 700], "timeframe": ["1h", "2h"]}, "750 steps at 2h works with 375"),
        (SAC, {"learning_starts": [100, 700]}, None),
        (SAC, {"buffer_size": [1000, 5000]}, "offers 5000"),
        (SAC, {"train_freq": [1, 2000]}, "offers 2000"),
        (AgentSpec("dqn", 1500, 1), {"target_update_interval": [100, 5000]}, "offers 5000"),
        (
            AgentSpec("dqn", 1500, 8),
            {"target_update_interval": [96, 100]},
            "96 and 100, .* works with 96 for all of them",
        ),
        (AgentSpec("ppo", 1000, 4), {"n_steps": [64, 512]}, "offers 512, but .* works with 128"),
        (AgentSpec("ppo", 1000, 4), {"n_steps": [64, 512, 1024]}, "offers 512 and 1024, but .* with 128$"),
        (
            AgentSpec("ppo", 1000, 4),
            {"n_steps": [64, 128], "batch_size": [64, 1024]},
            "batch_size offers 1024",
        ),
        (AgentSpec("ppo", 1000, 4), {"n_steps": [64, 128], "batch_size": [64, 512]}, None),
        (
            AgentSpec("ppo", 8192, 8, hyperparameters={"batch_size": 64}),
            {"n_steps": [256, 512], "timeframe": ["1h", "4h"]},
            "offers 256 and 512, but .* at 4h works with 256 for all of them",
        ),
    ],
)
def test_values_that_the_budget_cannot_honour_are_found(
    tmp_path: Path, agent: AgentSpec, keys: dict[str, Any], words: str | None
) -> None:
    found = conflicts(tmp_path, agent, **keys)
    assert found == [] if words is None else re.search(words, "; ".join(found)), found


@pytest.mark.parametrize(
    ("agent", "keys", "enough"),
    [
        (AgentSpec("ppo", 1000, 4), {"n_steps": [64, 512, 1024]}, 4096),
        (AgentSpec("ppo", 1000, 4), {"n_steps": [64, 512], "timeframe": ["1h", "4h"]}, 2048),
        (SAC, {"learning_starts": [1000, 2000]}, 4000),
        (SAC, {"learning_starts": [1000, 2000], "buffer_size": [1000, 5000]}, 5000),
        (AgentSpec("dqn", 1500, 8), {"target_update_interval": [96, 100]}, None),
    ],
)
def test_the_budget_that_would_do_is_the_least(
    tmp_path: Path, agent: AgentSpec, keys: dict[str, Any], enough: int | None
) -> None:
    assert sufficient_budget(*budgeted(tmp_path, agent, **keys)) == enough
    if enough is not None:
        assert conflicts(tmp_path, dataclasses.replace(agent, total_timesteps=enough - 1), **keys)
        assert not conflicts(tmp_path, dataclasses.replace(agent, total_timesteps=enough), **keys)


def test_a_new_study_is_refused_for_them_before_anything_is_made(tmp_path: Path) -> None:
    sac = AgentSpec("sac", total_timesteps=1500, n_envs=1, hyperparameters={"learning_starts": 1000})
    space = {"agent": {"learning_starts": [1000, 2000]}}
    with pytest.raises(BadInputError, match=r"offers 1000 and 2000, .*raise agent\.total_timesteps to 4000"):
        run_study(
            resolve(dataclasses.replace(small_spec(tmp_path), agent=sac, space=space)), Console(quiet=True)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fixed", "space", "words"),
    [
        ("ppo", {}, {"agent": {"sde_sample_freq": [4, 8]}}, "agent.use_sde=true"),
        ("ppo", {}, {"agent": {"sde_sample_freq": [4, 8], "use_sde": [True, False]}}, None),
        ("ppo", {"use_sde": True}, {"agent": {"sde_sample_freq": [4, 8]}}, None),
        ("sac", {}, {"agent": {"use_sde_at_warmup": [True, False]}}, "agent.use_sde=true"),
        ("a2c", {}, {"agent": {"rms_prop_eps": [1e-5, 1e-4]}}, None),
        (
            "a2c",
            {"use_rms_prop": False},
            {"agent": {"rms_prop_eps": [1e-5, 1e-4]}},
            "agent.use_rms_prop=true",
        ),
        ("sac", {}, {"agent": {"target_entropy": [-1.0, -2.0]}}, None),
        ("sac", {"ent_coef": 0.1}, {"agent": {"target_entropy": [-1.0, -2.0]}}, "agent.ent_coef=auto"),
        ("ppo", {}, {"feature": {"zigzag_pct": [[1.0], [2.0]]}}, "add zigzag to feature.indicators"),
        ("ppo", {}, {"feature": {"horizon": [1, 4]}}, "read with feature.select or feature.forecast only"),
        ("ppo", {}, {"feature": {"horizon": [1, 4], "select": [0, 2]}}, None),
        (
            "ppo",
            {},
            {"feature": {"forecast_alone": [False, True], "select": [0, 2]}},
            "no trial has a forecast",
        ),
        (
            "ppo",
            {},
            {
                "feature": {
                    "forecast": ["none", "ridge"],
                    "forecast_alone": {"choices": [False, True], "when": {"feature.forecast": ["ridge"]}},
                }
            },
            None,
        ),
        (
            "ppo",
            {},
            {
                "feature": {
                    "select": [0, 2],
                    "forecast": ["ridge"],
                    "forecast_alone": {"choices": [True], "when": {"feature.forecast": ["ridge"]}},
                }
            },
            "space.feature.select changes no trial: feature.forecast_alone=true hides the columns",
        ),
        (
            "ppo",
            {},
            {"feature": {"zigzag_pct": [[1.0], [2.0]], "indicators": [["returns"], ["zigzag"]]}},
            None,
        ),
    ],
)
def test_a_key_that_no_trial_reads_is_found(
    tmp_path: Path, name: str, fixed: dict[str, Any], space: dict[str, Any], words: str | None
) -> None:
    agent = AgentSpec(name, hyperparameters=fixed)
    spec = dataclasses.replace(small_spec(tmp_path), agent=agent, space=space)
    found = "; ".join(unread_keys(spec, parse_space(space)))
    assert found == "" if words is None else words in found


def test_a_new_study_is_refused_for_a_key_that_no_trial_reads(tmp_path: Path) -> None:
    space = {"feature": {"zigzag_pct": [[1.0], [1.5, 2.0, 2.5, 3.0, 3.5]]}}
    with pytest.raises(BadInputError, match=r"space\.feature\.zigzag_pct changes no trial: .*take it out"):
        run_study(resolve(dataclasses.replace(small_spec(tmp_path), space=space)), Console(quiet=True))
    assert not list(tmp_path.iterdir())
