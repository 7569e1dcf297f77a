"""Join the best trials into one agent that holds the mean of their targets, measured on the same windows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from envs.plain import to_plain
from optimize.agents.ensemble import ENSEMBLE, join_agents
from optimize.bundles.replay import WindowedMarkets, load_on_device, rebuild_checked
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.summary import WindowResult
from optimize.hashing import hash_file, hash_object
from optimize.results.records import RunRecord
from optimize.walkforward.files import SCALER, window_folder, write_window
from optimize.walkforward.markets import WindowedMarket, market_key
from optimize.walkforward.representation import load_representation
from optimize.walkforward.run import TrialResult, WindowModel, conclude, evaluate_window
from optimize.walkforward.spec import RunSpec, read_run


@dataclasses.dataclass(frozen=True)
class Member:
    """A run of an ensemble and its folder."""

    run: RunRecord
    source: Path
    seed: int | None = None  # its place among the fresh seeds of a finalist; None: the only run of its set

    @property
    def title(self) -> str:
        """Return its trial, with the seed where there is one."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"trial {self.run.trial_number}{seed}"


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """An ensemble that was evaluated on the windows of its members; the record has no outcome yet."""

    run: RunRecord
    windowed: WindowedMarket
    result: TrialResult


def ensemble_uuid(members: Sequence[Member]) -> str:
    """Return the identity of an ensemble, which follows from the runs of its members in their order."""
    return hash_object([member.run.run_uuid for member in members])[:32]


def join_members(members: Sequence[Member], folder: Path, markets: WindowedMarkets) -> Joined:
    """Write the joined agent and its results of every window into a folder of a run; return both.

    Members must see the same observation: one study, market, features, lookback, environment and windows.
    """
    specs = [read_run(member.run.spec) for member in members]
    spec, first = specs[0], members[0].run
    for member, other in zip(members, specs, strict=True):
        _refuse_other(spec, other, first.trial_number, member.run.trial_number)
    where = f"the ensemble of {first.study_name}"
    windowed = rebuild_checked(spec, first.data_fingerprint, where, markets)
    measured: list[list[WindowResult]] = []
    for repeat in range(spec.score.repeats):
        measured.append([])
        for window in windowed.windows:
            places = [window_folder(member.source, window.index, repeat) for member in members]
            if missing := [place for place in places if not (place / SCALER).is_file()]:
                raise WalkforgeError(f"{where}: {missing[0]} has no model: choose a smaller ensemble")
            if len({hash_file(place / SCALER) for place in places}) > 1:
                raise WalkforgeError(f"{where}: its members scale window {window.index} differently")
            agent = join_agents([load_on_device(place, spec.agent.device) for place in places])
            model = WindowModel(
                agent, load_representation(places[0] / SCALER, spec.feature, windowed.market.feature_names)
            )
            result, trades = evaluate_window(spec, windowed, window, model, in_sample=True)
            sessions = windowed.market.session_date[slice(*window.test_sessions)]
            write_window(window_folder(folder, window.index, repeat), sessions, model, result, trades)
            measured[-1].append(result)
    run = RunRecord(
        run_uuid=ensemble_uuid(members),
        study_name=first.study_name,
        trial_number=first.trial_number,
        parameters={ENSEMBLE: [member.title for member in members]},
        spec=first.spec,
        entropy=first.entropy,
        versions=first.versions,
        data_fingerprint=first.data_fingerprint,
    )
    return Joined(run, windowed, conclude(spec, windowed, measured, pruned_at=None))


def _refuse_other(spec: RunSpec, other: RunSpec, trial: int, number: int) -> None:
    """Refuse a member that sees another observation than the first one."""
    mine, theirs = to_plain(spec), to_plain(other)
    differing = [key for key in mine if key != "agent" and mine[key] != theirs.get(key)]
    if differing or market_key(spec) != market_key(other):
        raise BadInputError(
            f"ensemble: trial {number} differs from trial {trial} in {', '.join(differing) or 'its purge'}, "
            "so that they do not see the same observation: choose a smaller ensemble, or hold these keys "
            "fixed in a study"
        )
