"""The trades of every window lie beside its returns, wherever the window goes."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from optimize.bundles.export import export_best
from optimize.bundles.manifest import read_manifest
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.trades import SCHEMA
from optimize.results.records import WindowRecord
from optimize.results.runs import windows_of
from optimize.study.context import StudyContext
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.walkforward.files import RETURNS, TRADES, drop_weights, run_folder, window_folder
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    never,
    opened,
    play,
    run_of,
    small_spec,
    unchanged,
)

REPEATED = ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0, repeats=2)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyContext]:
    """Run a study of one trial, whose windows are repeated, on an agent that trades."""
    context = opened(small_spec(tmp_path_factory.mktemp("trades"), n_trials=1, score=REPEATED))
    play(context)
    yield context
    context.engine.dispose()


def windows(context: StudyContext) -> list[tuple[Path, WindowRecord]]:
    run = run_of(context, 0)
    folder = run_folder(context.spec.folder, 0, run.run_uuid)
    with context.engine.connect() as conn:
        records = windows_of(conn, run.run_uuid)
    return [(window_folder(folder, record.window, record.repeat), record) for record in records]


def test_every_window_and_repeat_has_its_trades(played: StudyContext) -> None:
    found = windows(played)
    assert [(record.window, record.repeat) for _, record in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for place, record in found:
        trades = pq.read_table(place / TRADES)
        assert trades.schema.equals(SCHEMA)
        assert trades.num_rows == record.trades
    assert sum(record.trades or 0 for _, record in found) > 0


@pytest.mark.usefixtures("replayed_here")
def test_a_bundle_carries_the_trades_as_part_of_its_proof(played: StudyContext) -> None:
    (exported,) = export_best(played.engine, played.spec.output_dir, "small", 1)
    files = read_manifest(exported.folder).files
    for place, record in windows(played):
        name = f"windows/{record.window}/repeat_{record.repeat}/{TRADES}"
        assert (exported.folder / name).read_bytes() == (place / TRADES).read_bytes()
        assert files[name]["bytes"] == (place / TRADES).stat().st_size


def test_a_run_that_takes_over_has_the_trades_and_dropped_weights_leave_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    ran = change_windows(monkeypatch, unchanged)
    with pytest.raises(StopRequestedError):
        perform(context, claimed(context), lambda: bool(ran))
    perform(context, claimed(context), never)
    assert ran == [0, 1]  # window 0 was taken over
    found = windows(context)
    for place, record in found:
        assert pq.read_table(place / TRADES).num_rows == record.trades
    folder = run_folder(context.spec.folder, 0, run_of(context, 0).run_uuid)
    drop_weights(folder)
    left = {path.name for path in (folder / "windows").rglob("*") if path.is_file()}
    assert left == {RETURNS, TRADES}
