import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from optimize.cli.composition import compose, compose_tree, composing
from optimize.cli.schema_keys import hint_of, keys_of_verb
from optimize.errors import BadInputError
from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run
from tests.tiers import mostly_slow

BAD = [
    (["studdy"], "did you mean study?"),
    (
        ["study", "name=x", "n_trialz=3"],
        "there is no key 'n_trialz': `walkforge study --help` lists the keys; ",
    ),
    (["study", "name=x", "n_trialz=3"], "did you mean n_trials?"),
    (["study", "name=x", "lookback=3"], "did you mean feature.lookback?"),
    (["study", "name=x", "agent.zzz=3"], "+agent.zzz=..."),
    (["study", "name=x", "agent.learning_rat=3"], "did you mean agent.learning_rate?"),
    (["study", "name=x", "data.symbols=btc,eth"], "a list stands in brackets: 'data.symbols=[btc,eth]'"),
    (["study", "name=x", "data.symbols=btc"], "data.symbols must be a list, such as data.symbols=[a,b]"),
    (["study", "name=x", "n_trials=1,2"], "n_trials takes one value; with -m there is one job for each"),
    (["study", "name=x", "data.symbols=[a"], "a bracket is not closed"),
    (["study", "name=x", "agent=[ppo]"], "the choices are a2c, dqn"),
    (["study", "name=null"], "name=null is not allowed: name must be text"),
    (["study", "name=x", "n_trials=null"], "n_trials must be a whole number"),
    (["study", "name=x", "preflight=2"], "preflight must be true or false"),
    (["doctor", "repair=2"], "repair must be true or false"),
    (["study", "name=x", "+n_trials=3"], "write n_trials=VALUE, without the plus"),
    (["study", "name=x", "~nothing"], "there is no key 'nothing'"),
    (["study", "name"], "settings are written key=value"),
    (["study", "=3"], "a key is missing"),
    (["study", "name==x"], "write name=x, with one = between key and value"),
    (["study", "name=x", "n_trials:=3"], "write n_trials=3, with one = between key and value"),
    (["study", "name=x", "n_trials=\u0663"], "n_trials must be a whole number"),
    (["status", "database=databases/mine.db"], "database=databases/mine.db is not allowed: the choices are"),
    (["study", "name", "=", "x"], "write name=x, without spaces around the ="),
    (["study", "name:x"], "write name=x"),
    (["STUDY", "name=x"], "did you mean study?"),
    (["study", "name=x", "data.symbols=[[a]]"], "data.symbols must be a flat list of texts"),
    (["act", "bundle=x", "extensions=[[]]"], "extensions must be a flat list of texts"),
    (["study", "name=x", "feature.zigzag_pct=[{a:1}]"], "feature.zigzag_pct must be a flat list of numbers"),
    (["study", ""], "'' is not a setting: a variable of the shell was empty"),
    (["study", "name=x", "  "], "is not a setting: a variable of the shell was empty"),
    (["study", "\u2013help"], "begins with a long dash"),
    (["study", "name=\u201cx\u201d"], "typographic quotes"),
    (["leaderboard", "mine"], "such as name=mine"),
    (["study", "name=x", "agent=buy_and_hold"], "a baseline, which every walk-forward and study evaluates"),
    (["replay", "bundle=x", "data_path=a.csv", "data.path=b.csv"], "leave data_path out"),
    (["replay", "studies/x/exports/01"], "such as bundle=studies/x/exports/01"),
    (["data", "bars.csv"], "such as data=file data.path=bars.csv"),
    (["study", "name=x", "data=file", "path=bars.csv"], "did you mean data.path?"),
    (["study", "name=Artifacts"], "name must be another than artifacts"),
    (["study", f"name={'x' * 101}"], "at most 100 characters"),
    (["replay", "name=x", "trial=100000000000000000000"], "trial must be from 0 to"),
    (["study", "name=x", "window.file=/dev/zero"], "window.file: /dev/zero is a device"),
    (["study", "name=x", "notify.urls=SECRETTOKEN"], "notify.urls=*** is not allowed"),
    (["study", "name=x", "notify.urls=[SECRETTOKEN"], "'notify.urls=[***'"),
    (["study", "name=x", "debug.traceback=2"], "debug.traceback must be true or false"),
    (["study", "name=x", "--n_trials=3"], "unknown flag --n_trials=3: settings are written key=value"),
    (
        ["study", "name=x", "preflight=maybe"],
        "preflight='maybe' is not allowed: preflight must be true or false",
    ),
    (["study", "name=x", "+n_trialz=3"], "n_trialz"),
    (
        ["study", "name=x", "agent=pppo"],
        "agent=pppo is not allowed: did you mean ppo? the choices are a2c, dqn, ppo, sac",
    ),
    (["study", "name=x", "space=null"], "the choices are a2c, dqn, ppo, sac, td3; '~space' searches nothing"),
    (
        ["study", "name=x", "space.agent.learning_rate=[0.1,0.2]"],
        "write '~space.agent.learning_rate' '+space.agent.learning_rate=[0.1,0.2]'",
    ),
    (["study", "name=x", "sampler=grid"], "ranges for agent.learning_rate"),
    (
        ["study", "name=x", "sampler=cmaes"],
        "lists for feature.lookback, agent.gamma, agent.weight_decay, agent.clip_range, train.passes",
    ),
    (["study", "name=x", "n_trials=many"], "n_trials='many' is not allowed: n_trials must be a whole number"),
    (["study", "name=x", "n_trials=0"], "from 1 to"),
    (["study"], "name is missing"),
    (["study", "name=a.b"], "the dot is"),
    (["study", "name=x", "data=file"], "data.path is missing: name a CSV or Parquet file"),
    (["study", "name=x", "data=file", "data.path=nothing.csv"], "nothing.csv"),
    (["study", "name=x", "data.months=0"], "data.months"),
    (["study", "name=x", "window=canonical"], "window.file"),
    (["study", "name=x", "+agent.learning_rat=1"], "learning_rate"),
    (["study", "name=x", "data.path=a=b"], "quote"),
    (["study", "name=x", "+space.cost.commission_bps=[0,1]"], "commission_bps"),
    (["study", "name=x", "phase=two", "phase.timeframe.n_trials=7"], "multiple"),
    (["data", "data=file", "data.path=nothing.csv"], "nothing.csv"),
    (["status", "name=x"], "there is no database"),
    (["leaderboard", "name=x", "format=xml"], "table, csv, json"),
    (["leaderboard", "name=x", "limit=0"], "top_n=0 is not allowed"),
    (["leaderboard", "name=x", "top_n=0"], "at least 1"),
    (["study", "name=x", "agent.tau=0.5"], "agent.tau is not an argument of ppo: choose from activation"),
    (
        ["study", "name=x", "agent.net=256"],
        "agent.net must be one of linear, tiny, small, medium, large, deep,",
    ),
    (
        ["study", "name=x", "agent.total_timesteps=a"],
        "agent.total_timesteps must be a whole number, at least 1",
    ),
    (["study", "name=x", "notify={url: a}"], "there is no key 'notify.url'"),
    (["study", "name=x", "worker={zzz: 1}"], "there is no key 'worker.zzz': `walkforge study --help` lists"),
    (["study", "name=x", "n_trials=1e-2"], "n_trials='1e-2' is not allowed: n_trials must be a whole number"),
    (["study", "name=x", "preflight=1e2"], "preflight='1e2' is not allowed: preflight must be true or false"),
    (["study", "name=x", "phase.timeframe.lookbacks=[0,1]"], "phase.timeframe.lookbacks=[0, 1] is not"),
    (["study", "name=x", "phase.timeframe.timeframes=[no]"], "phase.timeframe.timeframes='no' is not"),
    (["study", "name=x", "space.reward.drawdown_penalty={low: 1}"], "+space.reward.drawdown_penalty=..."),
    (["study", "name=x", "data.timeframe={low: 0}"], "data.timeframe={low: 0} is not allowed"),
    (
        ["study", "name=x", "space.agent.gamma={low: 0.9, high: 1}"],
        "put a tree over a list: write '~space.agent.gamma' '+space.agent.gamma={low: 0.9, high: 1}'",
    ),
    (["study", "name=x", "data.symbols={a: b}"], "data.symbols must be a list, such as data.symbols=[a,b]"),
]


def test_no_hint_repeats_the_key_that_was_typed() -> None:
    for verb in ("study", "walk-forward", "status"):
        repeated = [key for key in keys_of_verb(verb) if hint_of(verb, key) == f"; did you mean {key}?"]
        assert not repeated


def test_every_hyperparameter_of_an_agent_is_set_without_a_plus() -> None:
    for agent in ALGORITHMS:
        with composing("study", []) as hydra:
            words = [f"agent={agent}", *(f"agent.{key}=null" for key in hyperparameters_of(agent))]
            tree = compose_tree("study", words, hydra)
        assert set(hyperparameters_of(agent)) <= set(tree.config.agent)


@pytest.mark.parametrize(
    ("verb", "word"), [("walk-forward", "deterministic=false"), ("study", "action=stop")]
)
def test_compose_refuses_a_key_that_a_spec_cannot_hold(
    verb: Literal["study", "walk-forward"], word: str
) -> None:
    with pytest.raises(BadInputError, match=f"{word[:6]}.* does not belong to a spec: leave it out"):
        compose(verb, ["name=x", word])


@pytest.mark.parametrize(("arguments", "said"), mostly_slow(BAD, *BAD[::4]))
def test_bad_input_is_one_line_and_exit_code_2(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("walkforge: ")
    assert said in err


@pytest.mark.parametrize(
    ("setting", "span", "said"),
    [
        ("window.count=400", "2017-01-01 to 2017-12-29", "window.count=400 windows"),
        ("data.months=1", "2017-11-29 to 2017-12-29", "a longer span of data (data.months)"),
    ],
)
def test_too_little_data_is_refused_after_a_line_that_names_it(
    run: Run, setting: str, span: str, said: str
) -> None:
    code, out, err = run("walk-forward", "name=x", setting)
    assert (code, out) == (2, f"EURUSD: 1h bars of FOREX_EURUSD_1H_ASK.csv, {span}\n")
    assert err.count("\n") == 1
    assert err.startswith("walkforge: ")
    assert said in err


def test_a_key_that_is_given_twice_is_named_and_the_last_one_counts(run: Run) -> None:
    _, _, err = run("study", "name=x", "n_trials=5", "n_trials=5", "seed=1", "seed=2", "n_trials=0")
    first, second, refused = err.splitlines()
    assert first == "n_trials is given more than once: n_trials=0 counts"
    assert second == "seed is given more than once: seed=2 counts"
    assert refused.startswith("walkforge: n_trials=0 is not allowed")
    _, _, err = run("status", "database.url=postgresql://me:sesame-open@h/a", "database.url=x")
    assert "sesame" not in err


def test_bad_input_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    run("study", "name=x", "n_trials=0")
    run("study")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_lists_the_known_ones(run: Run, filled: str) -> None:
    code, _, err = run("leaderboard", "name=btx", filled)
    assert code == 2
    assert err.count("\n") == 1
    assert "choose one of btc; did you mean btc?" in err


def test_an_unknown_query_lists_the_known_ones(run: Run, filled: str) -> None:
    code, _, err = run("query", "sql=bests", "name=btc", filled)
    assert code == 2
    assert "choose one of best_models, best_per_timeframe" in err


def test_the_module_runs_as_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "optimize", "study", "name=x", "n_trials=many"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_no_file_of_windows(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    code, out, err = run("study", "name=x", "window.file=pipe.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pipe.json is a pipe: name a regular file" in err


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ("[1, 2]", "windows.json[0]=1 is not allowed"),
        ("[{}]", "exactly the keys train_start, train_end, test_start, test_end"),
        ("[]", "a JSON list of at least one span"),
    ],
)
def test_spans_that_are_none_are_refused_before_there_is_a_market(
    run: Run, tmp_path: Path, spans: str, said: str
) -> None:
    (tmp_path / "windows.json").write_text(spans)
    code, out, err = run("study", "name=x", "window.file=windows.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_name_with_a_letter_outside_of_ascii_is_refused_for_that_reason(run: Run) -> None:
    code, _, err = run("study", "name=naïve")
    assert code == 2
    assert err.startswith("walkforge: name='naïve' is not allowed: use letters, digits, _ and -")
