"""Choice of the finalists: the best parameter sets of a search, and the runs that retrain them."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optimize import clock
from optimize.database import Engine
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.report.unscored import why_unscored
from optimize.results.finalists import set_of_run
from optimize.results.queries import LeaderboardRow, best_models
from optimize.results.records import RunRecord
from optimize.results.runs import load_run, parameter_set
from optimize.study.spec import StudySpec
from optimize.walkforward.spec import RunSpec, read_run

FRESH = 0x46494E41  # a word of the seeds that trials lack, whose entropy is two words long


@dataclass(frozen=True)
class Entrant:
    """A parameter set among the best of the search."""

    parameter_set: str
    trial_number: int  # of the run that the search scored it by
    search_score: float
    parameters: Mapping[str, Any]
    spec: RunSpec  # resolved, with one repeat, its data on this machine
    data_fingerprint: str


@dataclass(frozen=True)
class FinalistPlan:
    """The runs of one `walkforge finalists`: every entrant on every seed."""

    study: str
    seed: int  # of the study
    entrants: tuple[Entrant, ...]
    seeds: int
    volume_share: float  # of a bar's volume, in the stress test that limits orders by it
    gates: ResultGateSpec = dataclasses.field(default_factory=ResultGateSpec)  # of the study
    launched_at: datetime = dataclasses.field(default_factory=clock.now)

    def runs(self) -> Iterator[tuple[Entrant, int]]:
        """Yield every (entrant, seed), one seed of all entrants after another."""
        for seed in range(self.seeds):
            for entrant in self.entrants:
                yield entrant, seed

    def entropy(self, seed: int) -> list[int]:
        """Return the seed entropy of a run, to which window and repeat are added.

        No trial of the study used it: a trial has its number in place of the two last words. The entrants
        share it, so that their fresh scores are compared on equal seeds.
        """
        return [self.seed, FRESH, seed]


def choose_entrants(
    engine: Engine, spec: StudySpec, top_n: int, data_path: str | None = None
) -> tuple[Entrant, ...]:
    """Return the best parameter sets of a study that a run of Walkforge has scored, best first."""
    rows = [row for row in best_models(engine, spec.name, top_n) if row.run_uuid is not None]
    if not rows:
        raise WalkforgeError(why_unscored(engine, spec.name))
    return tuple(_entrant(engine, spec, row, data_path) for row in rows)


def _entrant(engine: Engine, spec: StudySpec, row: LeaderboardRow, data_path: str | None) -> Entrant:
    with engine.connect() as conn:
        run = None if row.run_uuid is None else load_run(conn, row.run_uuid)
        if run is None:
            raise WalkforgeError(
                f"trial {row.trial_number} of {row.study_name} lost its run while it was looked at: try again"
            )
        of_set = set_of_run(conn, run.run_uuid) or parameter_set(run.parameters)
    return Entrant(
        parameter_set=of_set,
        trial_number=row.trial_number,
        search_score=row.score,
        parameters=run.parameters,
        spec=_spec_of(spec, run, data_path),
        data_fingerprint=run.data_fingerprint,
    )


def _spec_of(spec: StudySpec, run: RunRecord, data_path: str | None) -> RunSpec:
    """Return the resolved spec of a run with one repeat, because each fresh seed is a run of its own."""
    stored = read_run(run.spec)
    data = dataclasses.replace(stored.data, folder=spec.data.folder)
    if data_path is not None:
        if data.provider != "file":
            raise BadInputError(
                f"data.path={data_path!r} is not allowed: the data come from data.provider={data.provider}, "
                "not from a file; leave it out"
            )
        data = dataclasses.replace(data, path=data_path)
    score = dataclasses.replace(stored.score, repeats=1)
    return dataclasses.replace(stored, data=data, score=score, extensions=spec.extensions)
