import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.study.workers import gpus as devices
from tests.optimize.cli.conftest import Run
from tests.tiers import mostly_slow

TINY = ["name=probe", "debug=tiny", "data=synthetic", "data.synthetic.bars=1500", "agent.total_timesteps=256"]


def test_a_dry_run_shows_the_windows_and_trains_nothing(run: Run, tmp_path: Path) -> None:
    code, out, err = run("walk-forward", "name=probe", "dry_run=true")
    assert (code, err) == (0, "")
    for words in (
        "4 windows",
        "2017-05-17 .. 2017-06-29",
        "purged bars",
        "holdout: 2017-11-07",
        "nothing was",
    ):
        assert words in out
    assert not (tmp_path / "studies").exists()
    assert not (tmp_path / "databases" / "walkforge.db").exists()


@pytest.mark.parametrize("deterministic", mostly_slow(["true", "false"], "true"))
def test_one_configuration_is_evaluated_beside_its_baselines(
    run: Run, tmp_path: Path, deterministic: str
) -> None:
    code, out, err = run("walk-forward", *TINY, "score.min_trades=0", f"deterministic={deterministic}")
    assert (code, err) == (0, "")
    for words in (
        "window 0, repeat 0: Sharpe",
        "[1/2]",
        "[2/2]",
        "zero-cost Sharpe",
        "flat",
        "buy_and_hold",
        "random",
        "net of all costs",
        "verdict: ",
        "this configuration",
        "tries: 1 on this instrument and these dates in the database, 1 on these dates on all instruments",
    ):
        assert words in out
    folder = tmp_path / "studies" / "probe" / "walk_forward"
    assert (folder / "windows" / "1" / "repeat_0" / "policy.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"] == "probe"
    assert [path.name for path in folder.parent.iterdir()] == ["walk_forward"]
    with closing(sqlite3.connect(tmp_path / "databases" / "walkforge.db")) as conn:
        tries = conn.execute('SELECT kind, study_name, first < "end" FROM wf_tries').fetchall()
    assert tries == [("walk_forward", "probe", 1)]


@pytest.mark.slow
def test_the_same_seed_comes_to_the_same_score(run: Run) -> None:
    first, second = (run("walk-forward", *TINY, "score.min_trades=0")[1] for _ in range(2))
    assert _scores(first) == _scores(second)


def test_an_earlier_run_is_not_replaced_in_silence(run: Run) -> None:
    command = ["walk-forward", *TINY, "score.min_trades=0", "data.synthetic.bars=800", "window.count=1"]
    said = "studies/probe/walk_forward holds an earlier run, which this one replaces when it is done"
    first, second = (run(*command)[1] for _ in range(2))
    assert said not in first
    source, warning, *_ = second.splitlines()
    assert source.startswith("SYNTH: 1h bars of synthetic SYNTH, 2022-01-01 to ")
    assert warning == said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "ppo trains on the compiled engine: there are kernels for its networks on a CPU"),
        (["agent.engine=stock"], "ppo trains on the stock engine: agent.engine=stock asks for it"),
    ],
)
def test_the_engine_and_its_reason_are_said(run: Run, options: list[str], words: str) -> None:
    command = ["walk-forward", *TINY, "data.synthetic.bars=800", "window.count=1", *options]
    assert words in run(*command)[1].splitlines()


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    code, out, err = run("walk-forward", *TINY, "agent.device=cuda")
    assert (code, out) == (2, "")
    assert "agent.device" in err
    assert "GPU" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_differential_reward_says_how_often_it_was_active(run: Run) -> None:
    command = ["walk-forward", *TINY, "score.min_trades=0", "data.synthetic.bars=800", "window.count=1"]
    assert "reward active" not in run(*command)[1]
    out = run(*command, "reward=differential_sharpe", "reward.clip=0.05")[1]
    assert "reward active: share of the training steps" in out
    (row,) = [line.split() for line in out.splitlines() if line.split()[:2] == ["0", "0"]]
    assert 0.0 < float(row[-1].removesuffix("%")) < 100.0


@pytest.mark.slow
def test_sessions_that_end_flat_are_said(run: Run, tmp_path: Path) -> None:
    write_hours(tmp_path / "spy.parquet")
    data = ["data=file", "data.path=spy.parquet", "session=us_equity", "feature=indicators"]
    window = ["feature.indicators=[returns]", "window.count=1", "window.train_ratio=2.0", "debug=tiny"]
    command = ["walk-forward", "name=probe", *data, *window, "score.min_trades=0"]
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "buy_and_hold (bought anew each session)" in out
    legend = "fills, forced exits among them"  # stands below every table
    assert "forced" in out.replace(legend, "")  # the head of a narrow column stands on two lines
    overnight = run(*command, "session.flat_overnight=false")[1]
    assert "anew" not in overnight
    assert "forced" not in overnight.replace(legend, "")


def write_hours(path: Path) -> None:
    """Write 60 New York sessions of hours."""
    days = pd.bdate_range("2024-05-28", periods=60)
    stamps = [day.replace(hour=hour, minute=30) for day in days for hour in range(13, 20)]
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, len(stamps))))
    open_ = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) / 1.002
    prices = {"open": open_, "high": high, "low": low, "close": close}
    volume = rng.lognormal(5, 0.4, len(stamps))
    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(stamps, tz="UTC"), **prices, "volume": volume})
    holidays = ["2024-06-19", "2024-07-03", "2024-07-04"]  # the second is half a day
    frame[~frame["timestamp"].dt.strftime("%Y-%m-%d").isin(holidays)].to_parquet(path)


def test_the_plan_says_what_settles_the_features(run: Run) -> None:
    out = run("walk-forward", "name=probe", "dry_run=true")[1]
    (line,) = [
        line for line in out.splitlines() if line.startswith("the data begin on 2017-01-02; what comes")
    ]
    start = line.split()[8]
    assert "2017-01-02" < start < "2017-02-20"
    assert f"{start} .. 2017-05-17" in out


def test_too_few_train_bars_after_the_warm_up_say_so(run: Run) -> None:
    code, _, err = run("walk-forward", "name=probe", "dry_run=true", "data.timeframe=12h", "window.count=2")
    assert code == 2
    assert "has 0 train bars from 2017-08-" in err
    assert "on, when its features have settled, needs 200" in err


@pytest.mark.parametrize("timeframe", ["4h", "1d"])
def test_tiny_is_enough_for_coarse_bars(run: Run, timeframe: str) -> None:
    data = ["data=synthetic", f"data.timeframe={timeframe}", "data.synthetic.bars=50000"]
    code, out, err = run("walk-forward", "name=probe", "debug=tiny", *data, "dry_run=true")
    assert (code, err) == (0, "")
    assert f"{timeframe}: 2 windows" in out


def test_tiny_asks_a_daily_file_for_its_own_timeframe(run: Run, tmp_path: Path) -> None:
    close = 100 + np.sin(np.arange(1500))
    bars = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1.0}
    stamp = pd.date_range("2020-01-01", periods=1500, freq="D")
    pd.DataFrame({"timestamp": stamp, **bars}).to_csv(tmp_path / "daily.csv", index=False)
    command = ("walk-forward", "name=probe", "debug=tiny", "data=file", "data.path=daily.csv", "dry_run=true")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    *_, cut = out.splitlines()
    assert cut.startswith(
        "debug=tiny cut it down to at most the newest 60 months of bars, 512 training steps"
    )
    assert cut.endswith(": its scores mean nothing")
    assert "1d: 2 windows" in out


def test_no_score_is_exit_code_1_with_the_reason(run: Run) -> None:
    code, out, _ = run("walk-forward", *TINY, "score.min_trades=100000")
    assert code == 1
    assert "no score: min_trades" in out


def test_a_bundle_is_for_evaluate(run: Run) -> None:
    code, _, err = run("walk-forward", "name=x", "model=nothing")
    assert code == 2
    assert err.count("\n") == 1


def _scores(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.strip().startswith("ppo")]
