"""A bundle of trainings that stopped early holds the kept, averaged weights, and replays by them."""

import dataclasses
from pathlib import Path

import numpy as np

from envs.spec import EnvSpec
from optimize.agents.agent import load_agent
from optimize.agents.train_spec import TrainSpec
from optimize.bundles.export import export_best
from optimize.bundles.load import load_bundle
from optimize.bundles.replay import read_config, replay_bundle
from optimize.bundles.write import write_bundle
from optimize.report.early_stopping import choice_of_weights
from optimize.results.runs import run_of_trial, windows_of
from optimize.walkforward.files import RETURNS, read_returns, run_folder, window_folder
from optimize.walkforward.markets import build_windowed_market, fit_to_window
from optimize.walkforward.validation import train_span_of, validation_of
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices

STOPPING = TrainSpec(validation=0.3, eval_every=0.125, patience=2, average=2)


def test_a_bundle_of_a_training_that_stopped_early_replays_bit_for_bit(tmp_path: Path) -> None:
    spec = tiny_spec(
        tmp_path, write_prices(tmp_path / "prices.parquet"), n_trials=1, train=STOPPING,
        env=EnvSpec(rebalance_band=0.0),
    )  # fmt: skip
    agent = dataclasses.replace(spec.agent, total_timesteps=256, net="linear")
    context = run_all(dataclasses.replace(spec, agent=agent))
    with context.engine.connect() as conn:
        run = run_of_trial(conn, "tiny", 0)
        assert run is not None
        stored = {(row.window, row.repeat): row for row in windows_of(conn, run.run_uuid)}
    assert any((row.trained_steps or 256) < 256 for row in stored.values())
    (exported,) = export_best(context.engine, context.spec.output_dir, "tiny", 1)
    folder = exported.folder
    assert replay_bundle(folder).bitwise
    assert (read_config(folder).train, read_config(folder).agent.net) == (STOPPING, "linear")
    assert choice_of_weights(STOPPING) in (folder / "CARD.md").read_text(encoding="utf-8")
    bundle = load_bundle(folder)
    assert bundle.agent.spec.net == "linear"
    windowed = build_windowed_market(bundle.spec, None)
    for window in windowed.windows:
        _, market = fit_to_window(bundle.spec, windowed, window)
        measure = validation_of(bundle.spec, market, train_span_of(bundle.spec, market, window))
        assert measure is not None
        for repeat in range(2):
            place = window_folder(folder, window.index, repeat)
            assert measure(load_agent(place)) == stored[window.index, repeat].sharpe_validation
            assert np.isfinite(read_returns(place / RETURNS)[1].returns).all()
    source = run_folder(context.spec.folder, 0, run.run_uuid)
    write_bundle(tmp_path / "refit", run, exported.score, source, {}, refitted=True)
    assert replay_bundle(tmp_path / "refit").bitwise
    assert load_bundle(tmp_path / "refit").spec.train == STOPPING
