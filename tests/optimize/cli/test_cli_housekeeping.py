"""`walkforge prune` and `walkforge delete`: they list first, and act when that is confirmed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.study.context import StudyContext
from optimize.study.shared_folder import mark_folder
from tests.optimize.cli.conftest import Run
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    folder = tmp_path_factory.mktemp("housekeeping")
    context = run_all(tiny_spec(folder, write_prices(folder / "tiny_prices.parquet"), n_trials=2))
    mark_folder(context)
    yield context
    context.close()


def test_they_list_first_and_act_when_it_is_confirmed(run: Run, finished: StudyContext) -> None:
    place = (f"database.url={finished.spec.database.url}", f"output_dir={finished.spec.output_dir}")
    trials = Path(finished.spec.output_dir) / "tiny" / "trials"
    code, out, err = run("prune", "name=tiny", "keep=1", *place)
    assert (code, err) == (0, "")
    assert "of 1 runs would be freed; nothing is removed yet: add confirm=true" in out
    assert len(list(trials.iterdir())) == 2
    assert "freed" in run("prune", "name=tiny", "keep=1", "confirm=true", *place)[1]
    assert len(list(trials.iterdir())) == 1
    assert (
        "no files lie below the best 1 parameter sets of tiny"
        in run("prune", "name=tiny", "keep=1", *place)[1]
    )

    assert "is missing; name the output_dir" in run("export", "name=tiny", "gate=none", *place)[2]
    (kept,) = trials.iterdir()
    lower = 1 - int(kept.name[:4])
    assert "its models are back" in run("replay", "name=tiny", f"trial={lower}", *place)[1]
    assert len(list(trials.glob("*/windows/*/repeat_*/returns.parquet"))) == 8  # two windows, two repeats
    assert len(list(trials.glob("*/windows/*/repeat_*/trades.parquet"))) == 8

    code, out, err = run("delete", "name=tiny", *place)
    assert (code, err) == (0, "")
    assert "wf_runs" in out
    assert "tiny would be removed" in out
    assert trials.is_dir()
    assert "removed tiny" in run("delete", "name=tiny", "confirm=true", "exports=true", *place)[1]
    assert not trials.parent.exists()
    code, _, err = run("delete", "name=tiny", "confirm=true", *place)
    assert code == 2
    assert "holds no such study" in err
