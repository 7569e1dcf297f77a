"""Off-policy agents through the engine: trained by kernels, exported, replayed to the bit."""

from pathlib import Path

import pytest

from optimize.agents.agent import load_sb3
from optimize.agents.registry import find_algorithm
from optimize.agents.spec import AgentSpec
from optimize.bundles.export import export_best
from optimize.bundles.replay import replay_bundle
from tests.optimize.study.bundles import run_all, tiny_spec, write_prices

SMALL = {"learning_starts": 20, "batch_size": 16, "train_freq": 2}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed_here")
@pytest.mark.parametrize("name", ["sac", "td3", "dqn"])
def test_a_bundle_of_a_compiled_agent_replays_bit_for_bit(tmp_path: Path, name: str) -> None:
    agent = AgentSpec(name=name, total_timesteps=128, n_envs=2, net="tiny", hyperparameters=dict(SMALL))
    spec = tiny_spec(tmp_path, write_prices(tmp_path / "prices.parquet"), agent=agent, n_trials=2)
    context = run_all(spec)
    exported = export_best(context.engine, context.spec.output_dir, "tiny", 1)
    context.engine.dispose()
    folder = exported[0].folder
    assert '"engine": "compiled"' in (folder / "spec.json").read_text()
    assert replay_bundle(folder).bitwise
    assert type(load_sb3(folder)) is find_algorithm(name).load()
    assert load_sb3(folder)._n_updates > 10
