"""A training with every new key at once: stock code takes the same steps to the same kept weights."""

from typing import Any

import pytest

from optimize.agents.registry import ALGORITHMS
from optimize.agents.train_spec import TrainSpec
from tests.optimize.agents.kernels.whole_training import largest_difference, train_twice
from tests.optimize.agents.support import small_spec
from tests.tiers import mostly_slow

STOPPING = TrainSpec(
    validation=0.2, eval_every=0.125, patience=2, average=2, observation_noise=0.3, column_dropout=0.2
)
KEYS: dict[str, Any] = {"net": "linear", "gamma": 0.0, "weight_decay": 1.0, "learning_rate": 0.003}


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_both_engines_end_with_the_same_weights_after_the_same_stop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(name, total_timesteps=512, **KEYS | ({"n_steps": 16} if name == "ppo" else {}))
    agents, earned = train_twice(monkeypatch, spec, STOPPING, decided=(1.0, 3.0, 2.0, 2.9))
    ours, stock = agents
    assert (ours.trained_steps, ours.sharpe_validation) == (256, 3.0)
    assert (stock.trained_steps, stock.sharpe_validation) == (256, 3.0)
    assert earned[0] == pytest.approx(earned[1], abs=1e-5)
    assert len({round(each, 6) for each in earned[0]}) == 4
    assert [each[-1] for each in earned] == [each[1] for each in earned]  # the second checkpoint is kept
    assert largest_difference(ours, stock) < 1e-5
