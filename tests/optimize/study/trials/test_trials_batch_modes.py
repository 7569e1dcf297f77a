"""The sequence of trials with several workers, and the modes that are allowed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import BadInputError
from optimize.search.spec import PrunerSpec, SamplerSpec
from optimize.study.spec import WorkerSpec
from optimize.study.trials.ask import timing_note
from tests.optimize.study.studies import opened, small_spec


def test_what_several_workers_mean_is_said(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)

    def words(sampler: str = "tpe", pruner: str = "none", **worker: Any) -> str | None:
        parts: dict[str, Any] = {"sampler": SamplerSpec(sampler), "pruner": PrunerSpec(pruner)}
        return timing_note(dataclasses.replace(spec, worker=WorkerSpec(**worker), **parts))

    assert words(count=1) is None
    assert "worker.mode=batch worker.batch_size=4" in str(words(count=4))
    assert words("random", count=4) is None
    assert words("random", "median", count=4) is not None
    assert words(count=4, mode="batch", batch_size=4) is None
    assert "no more than so many of 4 workers" in str(words(count=4, mode="batch", batch_size=2))


def test_the_mode_of_a_study_cannot_change(tmp_path: Path) -> None:
    opened(small_spec(tmp_path))
    changed = r"worker\.batch_size: started with 0, now 2\n  worker\.mode: started with 'async', now 'batch'"
    with pytest.raises(BadInputError, match=changed):
        opened(small_spec(tmp_path, worker=WorkerSpec(mode="batch", batch_size=2)))


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ({"mode": "sync"}, "worker.mode='sync' is not allowed: .*one of async, batch"),
        ({"mode": "batch"}, "worker.batch_size=0 is not allowed: .*at least 1 where worker.mode=batch"),
        ({"batch_size": 4}, "worker.batch_size=4 is not allowed: .*0 where worker.mode=async"),
    ],
)
def test_modes_that_contradict_themselves_are_refused(worker: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        WorkerSpec(**worker)
