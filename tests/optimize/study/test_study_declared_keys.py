"""Studies whose trials draw keys of an extension, lists of features and config groups."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.plain import from_plain
from optimize.bundles.export import export_best
from optimize.bundles.replay import replay_bundle
from optimize.cli.replay import replay_trial
from optimize.data.features.spec import FeatureSpec
from optimize.errors import OtherStudyError
from optimize.extensions import load_extensions
from optimize.results.queries import best_models
from optimize.results.records import load_study
from optimize.results.states import RunState
from optimize.schemas.records import ReplayConfig
from optimize.search.space import apply
from optimize.search.spec import SamplerSpec
from optimize.study.context import open_study
from optimize.study.control import NoTrial
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec, WorkerSpec
from tests.optimize.search.test_group_leaves import OPTIONS
from tests.optimize.study.studies import opened, play, run_of, small_spec
from tests.optimize.test_extension_keys import CODE


def searched(folder: Path, space: dict[str, Any], **changes: Any) -> StudySpec:
    """Return a study that tries each point of its grid once."""
    return small_spec(folder, n_trials=2, space=space, sampler=SamplerSpec("grid"), **changes)


def drawn(spec: StudySpec) -> list[dict[str, Any]]:
    """Run a study to its cap and return the parameters of its trials."""
    run_study(spec, Console(quiet=True))
    context = open_study(spec)
    try:
        rows = best_models(context.engine, spec.name, 10)
    finally:
        context.close()
    return [dict(row.parameters) for row in rows]


@pytest.mark.usefixtures("forked_workers")
def test_two_workers_search_a_key_of_an_extension(tmp_path: Path) -> None:
    path = tmp_path / "my_wave.py"
    path.write_text(CODE, encoding="utf-8")
    load_extensions([str(path)])
    spec = searched(
        tmp_path,
        {"feature": {"wave_length": [5, 10]}},
        extensions=[str(path)],
        feature=FeatureSpec(lookback=2, indicators=["returns", "wave"]),
        worker=WorkerSpec(count=2),
    )
    found = drawn(spec)
    assert sorted(each["feature.wave_length"] for each in found) == [5, 10]
    with pytest.raises(OtherStudyError, match=r"feature.wave_length: started with 5, now 10"):
        run_study(apply(spec, {"feature.wave_length": 10}), Console(quiet=True))


@pytest.mark.usefixtures("replayed_here")
def test_lists_and_files_of_a_group_are_searched_resumed_exported_and_replayed(tmp_path: Path) -> None:
    space = {
        "reward": {"choices": list(OPTIONS), "options": OPTIONS},
        "feature": {"indicators": [["returns"], ["returns", "range"]]},
        "agent": {"net": ["tiny", [8, 8]]},
    }
    spec = small_spec(tmp_path, n_trials=8, space=space, sampler=SamplerSpec("grid"))
    first = opened(spec)
    play(first, limit=3)
    with first.engine.connect() as conn:
        record = load_study(conn, spec.name)
    assert record is not None
    resumed = opened(from_plain(StudySpec, record.spec))  # needs no yaml
    assert resumed.spec == spec
    assert play(resumed) == NoTrial.FULL
    runs = [run_of(resumed, number) for number in range(8)]
    assert all(run.state == RunState.COMPLETE for run in runs)
    assert len({repr(run.parameters) for run in runs}) == 8
    for run in runs:
        assert run.spec["reward"] == OPTIONS[str(run.parameters["reward"])]
        assert run.spec["feature"]["indicators"] == run.parameters["feature.indicators"]
        assert run.spec["agent"]["net"] == run.parameters["agent.net"]
    exported = export_best(resumed.engine, spec.output_dir, spec.name, 2)
    assert [replay_bundle(each.folder).bitwise for each in exported] == [True] * 2
    for number in {each.trial for each in exported}:
        config = ReplayConfig(
            name=spec.name, trial=number, output_dir=spec.output_dir, database=spec.database
        )
        assert replay_trial(config).bitwise
