"""Timeframe first, model second: the balanced grid, the kept set, and the evidence of phase 2."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from sqlalchemy import insert
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from benchmarks.two_phase import QUICK, simulate
from envs.plain import to_plain
from envs.types import Market
from optimize.agents.agent import Agent
from optimize.agents.sb3.train import train
from optimize.agents.spec import AgentSpec
from optimize.clock import now
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError, StudyStoppedError
from optimize.evaluate import confidence_set
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowSpec
from optimize.report.timeframe_phase import verdict_lines
from optimize.results.event_log import events
from optimize.results.runs import finished_runs
from optimize.results.tables import EVENTS
from optimize.results.timeframe_verdict import Verdict, record_evidence, stored_evidence
from optimize.search.space import Choices, parse_space
from optimize.search.spec import LOOKBACK, TIMEFRAME, PhaseSpec, TimeframePhaseSpec
from optimize.study.context import StudyContext
from optimize.study.phases.run import (
    compare_combinations,
    excess_returns,
    model_study,
    require_evidence,
    timeframe_study,
)
from optimize.study.spec import StudySpec
from tests.optimize.report.test_report_timeframe_phase import verdict_of
from tests.optimize.study.studies import (
    SPACE,
    change_windows,
    claimed,
    opened,
    play,
    run_of,
    small_spec,
)

GRID = TimeframePhaseSpec(n_trials=8, timeframes=["1h", "4h"], lookbacks=[2, 4])


def two_phase(folder: Path, **changes: Any) -> StudySpec:
    return small_spec(folder, name="two", phase=PhaseSpec("two", GRID), **changes)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sessions of a small market decide; how many it takes is tested by simulation."""
    monkeypatch.setattr(confidence_set, "MIN_SESSIONS", 20)


def plant(monkeypatch: pytest.MonkeyPatch, sharpes: dict[tuple[str, int], float | None]) -> None:
    """Let each combination's windows bring returns of this Sharpe ratio a session; None: nothing at all."""
    drawn = itertools.count()

    def change(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
        sharpe = sharpes[spec.data.target, spec.feature.lookback]
        noise = np.random.default_rng(next(drawn)).standard_normal(len(measured.returns))
        returns = np.zeros(len(noise)) if sharpe is None else 0.01 * (noise + sharpe)
        return dataclasses.replace(measured, returns=returns)

    change_windows(monkeypatch, change)


def played(spec: StudySpec) -> StudyContext:
    context = opened(timeframe_study(spec))
    play(context)
    return context


@pytest.mark.usefixtures("few")
def test_what_cannot_be_told_from_the_best_is_kept_and_the_rest_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, {("1h", 2): 0.0, ("1h", 4): 0.8, ("4h", 2): 0.8, ("4h", 4): 0.0})
    context = played(two_phase(tmp_path))
    evidence = compare_combinations(context, "0" * 64)
    found = {(each.timeframe, each.lookback): each for each in evidence.combinations}
    assert [pair for pair, each in found.items() if each.kept] == [("1h", 4), ("4h", 2)]
    assert all((each.p_value or 0) <= 0.1 for each in found.values() if not each.kept)
    assert (evidence.timeframes, evidence.lookbacks) == (("1h", "4h"), (2, 4))
    assert [(each.timeframe, each.lookback) for each in evidence.added] == [("1h", 2), ("4h", 4)]
    assert (evidence.sessions, evidence.confidence, evidence.bootstraps) == (24, 0.9, 1000)
    said = verdict_lines(evidence)
    assert said[0] == "no timeframe can be told from the best: all 2 are kept (2 of 4 combinations are kept)"
    assert (
        "1h x 2, 4h x 4 too, which were not kept: timeframe and lookback are searched as two lists" in said[1]
    )
    assert "90 % confidence, 24 sessions" in said[2]
    assert compare_combinations(context, "0" * 64) == evidence
    runs = [run_of(context, number) for number in range(8)]
    for (timeframe, lookback), each in found.items():
        pair = {TIMEFRAME: timeframe, LOOKBACK: lookback}
        assert list(each.sharpes) == pytest.approx([run.score for run in runs if run.parameters == pair])


@pytest.mark.usefixtures("few")
def test_a_lucky_survivor_rules_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, {("1h", 2): 0.0, ("1h", 4): None, ("4h", 2): -3.0, ("4h", 4): None})
    evidence = compare_combinations(played(two_phase(tmp_path)), "0" * 64)
    reasons = [each.reason for each in evidence.combinations]
    missing = "0 of 2 trials have a score, 2 are needed (undefined_sharpe 2)"
    assert reasons == [None, missing, None, missing]
    assert (evidence.timeframes, evidence.lookbacks) == (("1h",), (2,))
    assert (
        verdict_lines(evidence)[0] == "1h is better than every other timeframe (1 of 4 combinations is kept)"
    )
    assert evidence.added == ()


def test_without_a_score_there_is_no_second_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])
    plant(monkeypatch, {("1h", 2): None})
    context = played(small_spec(tmp_path, name="two", phase=PhaseSpec("two", grid)))
    with pytest.raises(StudyStoppedError, match="no combination of timeframe and lookback has a score"):
        compare_combinations(context, "0" * 64)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 no table PAR1"])
def test_lost_returns_are_asked_for(tmp_path: Path, content: bytes | None) -> None:
    grid = TimeframePhaseSpec(n_trials=2, timeframes=["1h"], lookbacks=[2])
    context = played(small_spec(tmp_path, name="two", phase=PhaseSpec("two", grid)))
    path = next(context.spec.folder.glob("trials/0001*/windows/1/*/returns.parquet"))
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(
        StudyStoppedError, match=r"the returns of trial 1 at .*parquet are missing or damaged: bring"
    ):
        compare_combinations(context, "0" * 64)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_on_random_walks_the_true_best_is_dropped_no_more_often_than_stated(tmp_path: Path) -> None:
    spec = two_phase(tmp_path, data=DataSpec("synthetic", synthetic=SyntheticSpec(bars=2880)))
    context = played(spec)
    with context.engine.connect() as conn:
        runs = finished_runs(conn, context.spec.name)
    stored = excess_returns(context, runs, 365.0).by_run
    pool = [
        np.concatenate([stored[run.run_uuid] for run in runs if run.parameters == parameters])
        for parameters in ({TIMEFRAME: t, LOOKBACK: k} for t in ("1h", "4h") for k in (2, 4))
    ]
    size = dataclasses.replace(QUICK, draws=50, bootstraps=200)
    assert simulate([pool], size, edge=0.0, spread=2.0)["best_dropped"] <= 0.1
    found = simulate([pool], size, edge=30.0, spread=2.0)
    assert found["best_dropped"] == 0.0
    assert found["mean_kept"] < 2


def foresee(spec: AgentSpec, market: Market, span: tuple[int, int], **rest: Any) -> Agent:
    """Train a moment, then fit the policy to the next bar's return from its observation.

    It needs half a second where a policy gradient needs minutes, so that the whole of phase 1 is tested.
    """
    agent = train(spec, market, span, **rest)
    policy, lookback = cast(ActorCriticPolicy, agent.policy), rest["lookback"]
    decided = np.arange(span[0] + lookback, span[1] - 1)
    window = market.features[:, 0, :][decided[:, None] + np.arange(1 - lookback, 1)].reshape(len(decided), -1)
    seen = np.zeros((len(decided), *(policy.observation_space.shape or ())), dtype=np.float32)
    seen[:, : window.shape[1]] = window
    seen[:, window.shape[1]] = np.random.default_rng(rest["seed"]).uniform(-1.0, 1.0, len(decided))  # weight
    ahead = np.diff(np.log(market.close[:, 0]))[decided]
    observed, move = torch.from_numpy(seen), torch.from_numpy((ahead / ahead.std()).astype(np.float32))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    for _ in range(200):
        distribution = cast(DiagGaussianDistribution, policy.get_distribution(observed))
        held = torch.tanh(distribution.mode()[:, 0])
        loss = -(held * move).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return agent


def test_the_known_timeframe_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.walkforward.run.train", foresee)
    grid = TimeframePhaseSpec(n_trials=6, timeframes=["3h", "6h", "12h"], lookbacks=[2])
    made = SyntheticSpec(kind="known_timeframe", bars=395 * 8, period=4)
    spec = small_spec(
        tmp_path,
        name="two",
        phase=PhaseSpec("two", grid),
        data=DataSpec("synthetic", source_timeframe="3h", synthetic=made),
        window=WindowSpec(count=2, train_ratio=1.0, holdout_share=0.0, min_train_bars=20),
    )
    evidence = compare_combinations(played(spec), "0" * 64)
    assert evidence.sessions >= confidence_set.MIN_SESSIONS
    assert all(each.reason is None for each in evidence.combinations)
    assert verdict_lines(evidence)[0].startswith("12h is better than every other timeframe")
    assert model_study(spec, evidence).space["data"] == {"timeframe": ["12h"]}


def test_evidence_comes_back_as_it_was_stored_and_that_of_an_older_rule_does_not(tmp_path: Path) -> None:
    context = opened(timeframe_study(two_phase(tmp_path)))
    record_evidence(context.engine, verdict_of(), "1h is better")
    with context.engine.begin() as conn:
        assert stored_evidence(conn, "two.timeframe") == verdict_of()
        older = {"detail": {"rule": "one standard error"}, "message": "older", "at": now()}
        conn.execute(insert(EVENTS).values(study_name="two.timeframe", kind=Verdict.kind.value, **older))
        assert stored_evidence(conn, "two.timeframe") is None
        assert stored_evidence(conn, "two.model") is None


def test_the_grid_is_balanced_and_its_repetitions_share_seeds(tmp_path: Path) -> None:
    spec = timeframe_study(two_phase(tmp_path, seed=5))
    assert (spec.name, spec.n_trials, spec.pruner.name, spec.sampler.name) == (
        "two.timeframe",
        8,
        "none",
        "grid",
    )
    context = opened(spec)
    runs = [claimed(context).run for _ in range(8)]
    each = Counter((run.parameters[TIMEFRAME], run.parameters[LOOKBACK]) for run in runs)
    assert each == {("1h", 2): 2, ("1h", 4): 2, ("4h", 2): 2, ("4h", 4): 2}
    seeds = Counter(tuple(run.entropy) for run in runs)
    assert seeds == {(5, 0): 4, (5, 1): 4}
    steps = {run.parameters[TIMEFRAME]: run.spec["agent"]["total_timesteps"] for run in runs}
    assert steps == {"1h": 64, "4h": 16}  # equal passes over the train span
    gammas = {run.spec["agent"]["gamma"] for run in runs}
    assert gammas == {0.99, 0.99**4}


def test_a_failed_repetition_of_the_grid_is_repeated_on_its_own_seed(
    tmp_path: Path,
) -> None:
    context = opened(timeframe_study(two_phase(tmp_path)))
    first = claimed(context)
    context.study.tell(first.run.trial_number, state=TrialState.FAIL)
    others = [claimed(context) for _ in range(4)]
    again = [other.run for other in others if other.run.parameters == first.run.parameters]
    assert [run.entropy for run in again] == [first.run.entropy]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"confidence": 1.0}, r"phase\.timeframe\.confidence=1\.0 .* at least 0\.5 and below 1"),
        ({"confidence": 0.1}, r"phase\.timeframe\.confidence=0\.1"),
        ({"bootstraps": 50}, r"phase\.timeframe\.bootstraps=50 .* at least 100"),
    ],
)
def test_a_test_that_could_not_be_trusted_is_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        dataclasses.replace(GRID, **setting)


def test_phase_2_needs_evidence(tmp_path: Path) -> None:
    spec = two_phase(tmp_path)
    model = opened(model_study(spec, verdict_of()))
    with pytest.raises(StudyStoppedError, match="has no stored result of its timeframe phase"):
        require_evidence(model, "0" * 64)


def test_an_unfinished_phase_1_has_no_verdict(tmp_path: Path) -> None:
    context = opened(timeframe_study(two_phase(tmp_path)))
    play(context, 1)
    with pytest.raises(StudyStoppedError, match="has 1 of 8 trials, so the model phase cannot start"):
        compare_combinations(context, "0" * 64)


def test_the_verdict_is_stored_once_for_each_change(tmp_path: Path) -> None:
    context = opened(timeframe_study(two_phase(tmp_path)))
    for evidence in (verdict_of(), verdict_of(), verdict_of(lookbacks=(2, 4))):
        record_evidence(context.engine, evidence, "1h is better")
    with context.engine.connect() as conn:
        assert [each.event.lookbacks for each in events(conn, "two.timeframe", Verdict)] == [
            (2,),
            (2, 4),
        ]


def test_the_models_space_is_restricted_and_nothing_else_changes(tmp_path: Path) -> None:
    spec = two_phase(tmp_path, space=SPACE | {"feature": {"lookback": [2, 4, 8]}})
    model = model_study(spec, verdict_of(timeframes=("4h",), lookbacks=(2, 4)))
    assert model.space == SPACE | {"data": {"timeframe": ["4h"]}, "feature": {"lookback": [2, 4]}}
    assert dataclasses.replace(model, name="two", space=spec.space) == spec


def test_files_of_features_stay_in_the_models_space_beside_the_kept_lookbacks(tmp_path: Path) -> None:
    files = {"choices": ["own"], "options": {"own": to_plain(two_phase(tmp_path).feature)}}
    spec = two_phase(tmp_path, space={"feature": files})
    model = model_study(spec, verdict_of(timeframes=("4h",), lookbacks=(2, 4)))
    leaves = {each.path: each.domain for each in parse_space(model.space).parameters}
    assert leaves == {
        "feature": Choices(("own",)), LOOKBACK: Choices((2, 4)), TIMEFRAME: Choices(("4h",)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "n_trials", "timeframes"),
    [
        ("1h", 100, ["1h", "2h", "4h", "6h"]),
        ("5m", 100, ["5m", "10m", "20m", "30m"]),
        ("15s", 100, ["15s", "30s"]),  # 90s is not a timeframe, and 15 combinations divide no 100 trials
        ("4h", 100, ["4h", "8h", "12h", "1d"]),
        ("6h", 100, ["6h", "12h"]),  # 15 combinations divide no 100 trials
        ("1d", 100, ["1d"]),
        ("30m", 10, ["30m"]),
    ],
)
def test_timeframes_of_phase_one_start_from_the_data_s_own(
    own: str, n_trials: int, timeframes: list[str]
) -> None:
    """They were 1h to 6h for all bars, so that 5m bars were never tried and daily ones refused."""
    grid = TimeframePhaseSpec(n_trials=n_trials, timeframes=[], lookbacks=[1, 2, 4, 8, 16])
    assert grid.starting_from(own).timeframes == timeframes
    listed = TimeframePhaseSpec(n_trials=20, timeframes=["3h", "12h"], lookbacks=[1])
    assert listed.starting_from(own) is listed
