"""The training benchmark runs both engines and ends with one JSON line of their ratios."""

import json
import sys

import pytest

from benchmarks import training
from benchmarks.training import QUICK, make_market, product_flops


@pytest.mark.slow
@pytest.mark.parametrize("key", ["ppo_d33_b64", "sac_d33_h64"])
def test_it_ends_with_one_json_line(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", "--tiny", "--only", key])
    training.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["benchmark"] == "training"
    detail = result["detail"][key]
    assert result[key] == detail["ratio"] > 0
    assert set(detail["steps_per_s"]) == {"stock", "compiled"}


def test_the_cases_have_the_observations_that_their_keys_say() -> None:
    sizes = [(case.name, case.observation, case.hyperparameters["batch_size"]) for case in QUICK]
    assert [case.key for case in QUICK] == [
        f"{name}_d{size}_b{batch}" if name == "ppo" else f"{name}_d{size}_h64" for name, size, batch in sizes
    ]
    assert [size for _, size, _ in sizes] == [33, 153, 903] * 2
    assert make_market(1).features.shape[1:] == (1, 30)


def test_the_products_of_training_are_counted() -> None:
    layers = {"first": 2 * 2 * 33 * 64, "second": 3 * 2 * 64 * 64, "head": 3 * 2 * 64}
    assert product_flops(QUICK[0]) == pytest.approx(10 * 2 * sum(layers.values()))
    actor = 3 * 33 * 64 + 4 * (64 * 64 + 64 * 2)
    critic = 4 * 34 * 64 + 6 * (64 * 64 + 64)
    assert product_flops(QUICK[3]) == pytest.approx(256 * 2 * (actor + 2 * critic))
