"""`walkforge replay`."""

import dataclasses
import json
from pathlib import Path

from optimize.agents.threads import limit_threads
from optimize.bundles.replay import (
    Replay,
    rebuild_checked,
    replay_bundle,
    replay_verdict,
    trust_bundle,
    with_data_path,
)
from optimize.bundles.restore import Restoration
from optimize.database import open_engine
from optimize.database.address import in_words
from optimize.errors import BadInputError, require
from optimize.extensions import absolute_names, name_extensions
from optimize.report.format import number
from optimize.results.queries import find_study
from optimize.results.records import RunRecord
from optimize.results.runs import run_of_trial
from optimize.results.states import RunState
from optimize.schemas.records import ReplayConfig
from optimize.study.spec import MISSING_NAME
from optimize.walkforward.files import run_folder
from optimize.walkforward.run import run_trial
from optimize.walkforward.spec import read_run
from optimize.walkforward.versions import engine_again


def replay(config: ReplayConfig) -> None:
    """Prove that a bundle, or a trial trained anew, comes to its stored score."""
    named = config.name not in ("", MISSING_NAME)
    of_bundle = config.bundle is not None and not named and config.trial is None
    of_trial = config.bundle is None and named and config.trial is not None
    if not of_bundle and not of_trial:
        raise BadInputError(
            f"replay needs either bundle=FOLDER or name=STUDY trial=NUMBER, got bundle={config.bundle!r}, "
            f"name={config.name!r}, trial={config.trial!r}"
        )
    require(config.format != "csv", "format", config.format, "table or json for replay")
    name_extensions(config.extensions or [])
    if config.bundle is not None:
        if config.trust:
            trust_bundle(Path(config.bundle))
        result = replay_bundle(Path(config.bundle), _data_path(config))
    else:
        result = replay_trial(config)
    if config.format == "json":
        print(json.dumps(dataclasses.asdict(result) | {"verdict": result.verdict}, indent=2))
    else:
        print("\n".join(_lines(result)))


def replay_trial(config: ReplayConfig) -> Replay:
    """Train a stored trial again from its row and compare the score; put back models that it has lost."""
    run = _stored(config)
    stored = run.score
    if run.state != RunState.COMPLETE or stored is None:
        raise BadInputError(
            f"trial={config.trial} of {run.study_name} ended {run.state} "
            f"({run.failure_kind or run.reason or 'no reason'}) without a score: choose a COMPLETE trial"
        )
    limit_threads(int(run.versions.get("threads", 1)))
    spec = with_data_path(read_run(run.spec), _data_path(config))
    if config.extensions is not None:
        spec = dataclasses.replace(spec, extensions=absolute_names(config.extensions))
    where = f"trial {run.trial_number} of {run.study_name}"
    windowed = rebuild_checked(spec, run.data_fingerprint, where, {})
    folder = run_folder(Path(config.output_dir) / run.study_name, run.trial_number, run.run_uuid)
    with Restoration(folder, windowed) as models:
        result = run_trial(
            spec,
            windowed,
            list(run.entropy),
            keep=models.keep,
            report=lambda step, value: False,
            engine=engine_again(spec.agent, run.versions),
        )
        named = (where, run.study_name, f"trial {run.trial_number}")
        replay = replay_verdict(*named, stored, result.score.value, run.versions, same=True, close=True)
        return dataclasses.replace(replay, restored=models.settle(replay))


def _stored(config: ReplayConfig) -> RunRecord:
    engine = open_engine(config.database.url, read_only=True)
    try:
        study = find_study(engine, config.name)
        with engine.connect() as conn:
            run = run_of_trial(conn, study, int(config.trial or 0))
    finally:
        engine.dispose()
    if run is None:
        raise BadInputError(
            f"trial={config.trial}: {study} has no finished trial of that number; "
            f"walkforge leaderboard name={study}{in_words(config.database.url)} lists the best"
        )
    return run


def _data_path(config: ReplayConfig) -> str | None:
    """Return where the data lies now, by either name of the key; refuse two places."""
    old, new = config.data_path, config.data.path
    if old is not None and new is not None and old != new:
        raise BadInputError(f"data_path={old} and data.path={new} name two files: leave data_path out")
    return old if new is None else new


def _lines(result: Replay) -> list[str]:
    trial = f"{result.title} of {result.study}"
    lines = [trial if result.where == trial else f"{result.study}, {result.title} ({result.where})"]
    lines += [
        f"  window {window.window} repeat {window.repeat}  {window.test_start} to {window.test_end}  "
        f"Sharpe stored {_number(window.stored)}  replayed {_number(window.replayed)}"
        f"  {'same' if window.bitwise else 'differs'}"
        for window in result.windows
    ]
    lines += result.unproven
    if result.windows:
        lines.append(
            "proven: these models earn these returns on these data; who made the bundle is not proven"
        )
    lines.append(f"score stored {result.stored!r}, replayed {result.replayed!r}: {result.verdict}")
    return lines if result.restored is None else [*lines, result.restored]


def _number(value: float | None) -> str:
    return "undefined" if value is None else number(6)(value)
