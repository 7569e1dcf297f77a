"""Batch mode: the same trials at any number of workers, in any order of events, after any crash."""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from optimize.errors import BadInputError
from optimize.results import leases
from optimize.search.proposals import store
from optimize.search.pruners import BATCH
from optimize.search.spec import PrunerSpec, SamplerSpec
from optimize.search.storage import CAP_STATES
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials import execute as perform_module
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.walkforward.markets import WindowedMarket
from tests.optimize.study.batches import (
    CAP,
    INFEASIBLE,
    RETRIES,
    SIZE,
    SPACE,
    KilledError,
    Lay,
    Told,
    batched,
    in_turn,
    take_no_time,
    told,
)
from tests.optimize.study.studies import expire, never, opened, rows

MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3)]


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    take_no_time(monkeypatch)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        take_no_time(patch)
        return in_turn(*batched(tmp_path_factory.mktemp("reference"), "reference"))


def counted(context: StudyContext) -> int:
    return sum(trial.state in CAP_STATES for trial in context.study.get_trials(deepcopy=False))


def test_the_reference_has_every_kind_of_end(reference: Told) -> None:
    states = [state for _, _, state, _, _ in reference]
    assert (states.count("FAIL"), len(states)) == (1, CAP + 1)
    assert {"COMPLETE", "PRUNED"} < set(states)
    assert len(reference[INFEASIBLE][4]) == 3
    stopped = [number for number, _, state, _, steps in reference if state == "PRUNED" and len(steps) < 3]
    assert stopped
    assert min(stopped) >= SIZE


@pytest.mark.parametrize("seed", [0, 1, *MORE_SEEDS])
def test_workers_that_come_and_go_in_any_order_try_the_same(
    tmp_path: Path, trainer: None, reference: Told, seed: int
) -> None:
    context, lay = batched(tmp_path, "disturbed")
    disturb(context, lay, random.Random(seed))
    assert told(context) == reference
    assert counted(context) == CAP
    assert not rows(context.spec, "SELECT * FROM wf_leases WHERE study_name = 'disturbed'")


def disturb(context: StudyContext, lay: Lay, chance: random.Random) -> None:
    """Run the study by four workers that claim, finish, give back and die as chance has it."""

    def store_or_die(*arguments: Any) -> Any:
        if chance.random() < 0.2:
            raise KilledError
        return store(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.study.trials.ask.store", store_or_die)
        _disturb(context, lay, chance)


def _disturb(context: StudyContext, lay: Lay, chance: random.Random) -> None:
    held: list[Claim] = []
    lost: set[int] = set()
    for _ in range(400):
        assert counted(context) <= CAP
        act = chance.random()
        if len(held) < 4 and act < 0.5:
            try:
                found = claim(context, len(held), lay)
            except KilledError:
                context = opened(context.spec)  # as another process opens it
                continue
            if found is NoTrial.FULL:
                return
            if isinstance(found, Claim):
                held.append(found)
        elif held:
            one = held.pop(chance.randrange(len(held)))
            end(context, one, chance.random(), lost)
    raise AssertionError("the study does not end")


def end(context: StudyContext, one: Claim, act: float, lost: set[int]) -> None:
    """Finish a trial, give it back, or lose its worker: before it ran, or between record and report."""
    number = one.trial.number
    if act < 0.15:
        with context.engine.begin() as conn:
            leases.abandon(conn, one.lease)
    elif act < 0.4 and number not in lost:
        lost.add(number)
        if act < 0.3:
            with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
                patch.setattr(perform_module, "_store_outcome", die)
                perform(context, one, never)
                return  # it is to be tried again, and nobody died
        expire(context.spec, number)
    else:
        perform(context, one, never)


def die(*arguments: object) -> None:
    raise KilledError


def test_a_batch_is_asked_for_whole_before_any_of_it_runs(tmp_path: Path, trainer: None) -> None:
    context, lay = batched(tmp_path, "whole")
    first = claim(context, 0, lay)
    assert isinstance(first, Claim)
    trials = context.study.get_trials(deepcopy=False)
    assert [(t.number, t.state, t.user_attrs[BATCH]) for t in trials] == [
        (number, TrialState.RUNNING, [0, SIZE]) for number in range(SIZE)
    ]
    assert all(len(trial.params) == 3 for trial in trials)
    second, third = claim(context, 1, lay), claim(context, 2, lay)
    assert isinstance(second, Claim)
    assert isinstance(third, Claim)
    assert claim(context, 3, lay) is NoTrial.WAIT  # though the cap is far
    perform(context, second, never)
    assert [state for _, _, state, _, _ in told(context)] == [
        "RUNNING"
    ] * SIZE  # reported in the order of their numbers
    assert not rows(context.spec, "SELECT 1 FROM wf_leases WHERE trial_number = 1")
    assert claim(context, 1, lay) is NoTrial.WAIT  # nor is it run again
    perform(context, first, never)
    assert [state for _, _, state, _, _ in told(context)] == ["COMPLETE", "PRUNED", "RUNNING"]
    perform(context, third, never)
    assert [state for _, _, state, _, _ in told(context)] == ["COMPLETE", "PRUNED", "RUNNING"]  # tried again
    again = claim(context, 0, lay)
    assert isinstance(again, Claim)
    assert again.trial.number == RETRIES
    perform(context, again, never)
    assert [state for _, _, state, _, _ in told(context)] == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_a_trial_waits_for_one_that_is_recorded_and_not_yet_told(tmp_path: Path, trainer: None) -> None:
    context, lay = batched(tmp_path, "owners")
    first, second = claim(context, 0, lay), claim(context, 1, lay)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    inside: list[list[str]] = []
    real = perform_module._store_outcome

    def tell_late(*arguments: Any) -> None:
        if not inside:
            inside.append([])
            perform(context, second, never)
            inside[0] += [state for _, _, state, _, _ in told(context)]
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perform_module, "_store_outcome", tell_late)
        perform(context, first, never)
    assert inside == [["RUNNING"] * SIZE]
    assert [state for _, _, state, _, _ in told(context)][:2] == ["COMPLETE", "PRUNED"]


@pytest.mark.parametrize("sampler", ["random", "qmc", "cmaes"])
def test_every_sampler_repeats_itself(tmp_path: Path, trainer: None, sampler: str) -> None:
    ranges = {"agent": {key: SPACE["agent"][key] for key in ("learning_rate", "gamma")}}
    runs = []
    for number in range(2):
        context, lay = batched(
            tmp_path,
            f"run_{number}",
            sampler=SamplerSpec(sampler, 3),
            space=ranges,
            pruner=PrunerSpec("none"),
        )
        if number:
            disturb(context, lay, random.Random(3))
            runs.append(told(context))
        else:
            runs.append(in_turn(context, lay))
        context.close()
    assert runs[0] == runs[1]
    assert len({str(parameters) for _, parameters, _, _, _ in runs[0]}) == CAP + 1


def test_a_grid_stays_balanced(tmp_path: Path, trainer: None) -> None:
    choices = {"agent": {"gamma": [0.9, 0.99], "learning_rate": [1e-3, 1e-4]}}
    grid = {"space": choices, "sampler": SamplerSpec("grid"), "pruner": PrunerSpec("none"), "n_trials": 8}
    context, lay = batched(tmp_path, "grid", **grid)
    disturb(context, lay, random.Random(1))
    done = [
        str(sorted(parameters.items())) for _, parameters, state, _, _ in told(context) if state != "FAIL"
    ]
    assert sorted(done.count(each) for each in set(done)) == [2, 2, 2, 2]


def test_too_many_failures_stop_it_between_two_batches(
    tmp_path: Path, trainer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, lay = batched(tmp_path, "failing", max_failures=1)
    while isinstance(found := claim(context, 0, lay), Claim):
        perform(context, found, never)
    assert found is NoTrial.FAILING
    assert len(told(context)) == 2 * SIZE


def test_a_trial_whose_market_cannot_be_built_fails_and_the_next_one_runs(
    tmp_path: Path, trainer: None
) -> None:
    context, lay = batched(tmp_path, "unlaid", n_trials=2, worker=WorkerSpec(count=1))

    def broken(spec: StudySpec) -> WindowedMarket:
        if len(told(context)) == 1:
            raise BadInputError("data.path: the file is gone")
        return lay(spec)

    found = claim(context, 0, broken)
    assert isinstance(found, Claim)
    assert found.trial.number == 1
    assert [state for _, _, state, _, _ in told(context)] == ["FAIL", "RUNNING"]
    failures = "SELECT failure_kind, failure_message FROM wf_runs WHERE state = 'FAIL'"
    assert rows(context.spec, failures) == [("config", "BadInputError: data.path: the file is gone")]
    assert [number for (number,) in rows(context.spec, "SELECT trial_number FROM wf_leases")] == [1]


def test_a_market_that_never_builds_stops_the_study(tmp_path: Path, trainer: None) -> None:
    context, _ = batched(tmp_path, "gone")

    def broken(spec: StudySpec) -> WindowedMarket:
        raise BadInputError("data.path: the file is gone")

    assert claim(context, 0, broken) is NoTrial.SYSTEMATIC
    assert [state for _, _, state, _, _ in told(context)] == ["FAIL"] * SIZE
