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
from optimize.search.pruners import BATCH, PrunerSpec
from optimize.search.samplers import SamplerSpec
from optimize.search.storage import COUNTED
from optimize.study.claims import perform as perform_module
from optimize.study.claims.caps import Claim, Verdict, claim
from optimize.study.claims.perform import perform
from optimize.study.handle import Handle
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trial import Ground
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


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    take_no_time(monkeypatch)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        take_no_time(patch)
        return in_turn(*batched(tmp_path_factory.mktemp("reference"), "reference"))


def counted(handle: Handle) -> int:
    return sum(trial.state in COUNTED for trial in handle.study.get_trials(deepcopy=False))


def test_the_reference_has_every_kind_of_end(reference: Told) -> None:
    states = [state for _, _, state, _, _ in reference]
    assert (states.count("FAIL"), len(states)) == (1, CAP + 1)
    assert {"COMPLETE", "PRUNED"} < set(states)
    assert len(reference[INFEASIBLE][4]) == 3
    stopped = [number for number, _, state, _, steps in reference if state == "PRUNED" and len(steps) < 3]
    assert stopped
    assert min(stopped) >= SIZE


@pytest.mark.parametrize("seed", range(6))
def test_workers_that_come_and_go_in_any_order_try_the_same(
    tmp_path: Path, trainer: None, reference: Told, seed: int
) -> None:
    handle, lay = batched(tmp_path, "disturbed")
    disturb(handle, lay, random.Random(seed))
    assert told(handle) == reference
    assert counted(handle) == CAP
    assert not rows(handle.spec, "SELECT * FROM wf_leases WHERE study_name = 'disturbed'")


def disturb(handle: Handle, lay: Lay, chance: random.Random) -> None:
    """Run the study by four workers that claim, finish, give back and die as chance has it."""

    def store_or_die(*arguments: Any) -> Any:
        if chance.random() < 0.2:
            raise KilledError
        return store(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.study.claims.batch.store", store_or_die)
        _disturb(handle, lay, chance)


def _disturb(handle: Handle, lay: Lay, chance: random.Random) -> None:
    held: list[Claim] = []
    lost: set[int] = set()
    for _ in range(400):
        assert counted(handle) <= CAP
        act = chance.random()
        if len(held) < 4 and act < 0.5:
            try:
                found = claim(handle, len(held), lay)
            except KilledError:
                handle = opened(handle.spec)  # as another process opens it
                continue
            if found is Verdict.FULL:
                return
            if isinstance(found, Claim):
                held.append(found)
        elif held:
            one = held.pop(chance.randrange(len(held)))
            end(handle, one, chance.random(), lost)
    raise AssertionError("the study does not end")


def end(handle: Handle, one: Claim, act: float, lost: set[int]) -> None:
    """Finish a trial, give it back, or lose its worker: before it ran, or between record and telling."""
    number = one.trial.number
    if act < 0.15:
        with handle.engine.begin() as conn:
            leases.abandon(conn, one.lease)
    elif act < 0.4 and number not in lost:
        lost.add(number)
        if act < 0.3:
            with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
                patch.setattr(perform_module, "illustrate", die)
                perform(handle, one, never)
                return  # it is to be tried again, and nobody died
        expire(handle.spec, number)
    else:
        perform(handle, one, never)


def die(*arguments: object) -> None:
    raise KilledError


def test_a_batch_is_asked_for_whole_before_any_of_it_runs(tmp_path: Path, trainer: None) -> None:
    handle, lay = batched(tmp_path, "whole")
    first = claim(handle, 0, lay)
    assert isinstance(first, Claim)
    trials = handle.study.get_trials(deepcopy=False)
    assert [(t.number, t.state, t.user_attrs[BATCH]) for t in trials] == [
        (number, TrialState.RUNNING, [0, SIZE]) for number in range(SIZE)
    ]
    assert all(len(trial.params) == 3 for trial in trials)
    second, third = claim(handle, 1, lay), claim(handle, 2, lay)
    assert isinstance(second, Claim)
    assert isinstance(third, Claim)
    assert claim(handle, 3, lay) is Verdict.WAIT  # though the cap is far
    perform(handle, second, never)
    assert [state for _, _, state, _, _ in told(handle)] == ["RUNNING"] * SIZE  # told in number order
    assert not rows(handle.spec, "SELECT 1 FROM wf_leases WHERE trial_number = 1")
    assert claim(handle, 1, lay) is Verdict.WAIT  # nor is it run again
    perform(handle, first, never)
    assert [state for _, _, state, _, _ in told(handle)] == ["COMPLETE", "PRUNED", "RUNNING"]
    perform(handle, third, never)
    assert [state for _, _, state, _, _ in told(handle)] == ["COMPLETE", "PRUNED", "RUNNING"]  # tried again
    again = claim(handle, 0, lay)
    assert isinstance(again, Claim)
    assert again.trial.number == RETRIES
    perform(handle, again, never)
    assert [state for _, _, state, _, _ in told(handle)] == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_a_trial_waits_for_one_whose_note_is_being_written(tmp_path: Path, trainer: None) -> None:
    handle, lay = batched(tmp_path, "notes")
    first, second = claim(handle, 0, lay), claim(handle, 1, lay)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    inside: list[list[str]] = []

    def illustrate(*arguments: Any) -> None:
        if not inside:
            inside.append([])
            perform(handle, second, never)
            inside[0] += [state for _, _, state, _, _ in told(handle)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perform_module, "illustrate", illustrate)
        perform(handle, first, never)
    assert inside == [["RUNNING"] * SIZE]
    assert [state for _, _, state, _, _ in told(handle)][:2] == ["COMPLETE", "PRUNED"]


@pytest.mark.parametrize("sampler", ["random", "qmc", "cmaes"])
def test_every_sampler_repeats_itself(tmp_path: Path, trainer: None, sampler: str) -> None:
    ranges = {"agent": {key: SPACE["agent"][key] for key in ("learning_rate", "gamma")}}
    runs = []
    for number in range(2):
        handle, lay = batched(
            tmp_path,
            f"run_{number}",
            sampler=SamplerSpec(sampler, 3),
            space=ranges,
            pruner=PrunerSpec("none"),
        )
        if number:
            disturb(handle, lay, random.Random(3))
            runs.append(told(handle))
        else:
            runs.append(in_turn(handle, lay))
        handle.close()
    assert runs[0] == runs[1]
    assert len({str(parameters) for _, parameters, _, _, _ in runs[0]}) == CAP + 1


def test_a_grid_stays_balanced(tmp_path: Path, trainer: None) -> None:
    choices = {"agent": {"gamma": [0.9, 0.99], "learning_rate": [1e-3, 1e-4]}}
    grid = {"space": choices, "sampler": SamplerSpec("grid"), "pruner": PrunerSpec("none"), "n_trials": 8}
    handle, lay = batched(tmp_path, "grid", **grid)
    disturb(handle, lay, random.Random(1))
    done = [str(sorted(parameters.items())) for _, parameters, state, _, _ in told(handle) if state != "FAIL"]
    assert sorted(done.count(each) for each in set(done)) == [2, 2, 2, 2]


def test_too_many_failures_stop_it_between_two_batches(
    tmp_path: Path, trainer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, lay = batched(tmp_path, "failing", max_failures=1)
    while isinstance(found := claim(handle, 0, lay), Claim):
        perform(handle, found, never)
    assert found is Verdict.FAILING
    assert len(told(handle)) == 2 * SIZE


def test_a_trial_whose_market_cannot_be_built_fails_and_the_next_one_runs(
    tmp_path: Path, trainer: None
) -> None:
    handle, lay = batched(tmp_path, "unlaid", n_trials=2, worker=WorkerSpec(count=1))

    def broken(spec: StudySpec) -> Ground:
        if len(told(handle)) == 1:
            raise BadInputError("data.path: the file is gone")
        return lay(spec)

    found = claim(handle, 0, broken)
    assert isinstance(found, Claim)
    assert found.trial.number == 1
    assert [state for _, _, state, _, _ in told(handle)] == ["FAIL", "RUNNING"]
    failures = "SELECT failure_kind, failure_message FROM wf_runs WHERE state = 'FAIL'"
    assert rows(handle.spec, failures) == [("config", "BadInputError: data.path: the file is gone")]
    assert [number for (number,) in rows(handle.spec, "SELECT trial_number FROM wf_leases")] == [1]


def test_a_market_that_never_builds_stops_the_study(tmp_path: Path, trainer: None) -> None:
    handle, _ = batched(tmp_path, "gone")

    def broken(spec: StudySpec) -> Ground:
        raise BadInputError("data.path: the file is gone")

    assert claim(handle, 0, broken) is Verdict.SYSTEMATIC
    assert [state for _, _, state, _, _ in told(handle)] == ["FAIL"] * SIZE
