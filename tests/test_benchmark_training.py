"""The training benchmark runs both engines and ends with one JSON line of their ratios."""

import json
import subprocess
import sys

import pytest

from benchmarks.training import QUICK, make_market, product_flops
from tests.conftest import REPOSITORY


def test_it_ends_with_one_json_line() -> None:
    command = [sys.executable, "benchmarks/training.py", "--tiny", "--only", "ppo_d33_b64"]
    ran = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."}
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["benchmark"] == "training"
    detail = result["detail"]["ppo_d33_b64"]
    assert result["ppo_d33_b64"] == detail["ratio"] > 0
    assert set(detail["steps_per_s"]) == {"stock", "compiled"}


def test_the_cases_have_the_observations_that_their_keys_say() -> None:
    keys = ["ppo_d33_b64", "ppo_d153_b64", "ppo_d903_b64"]
    assert [case.key for case in QUICK] == keys
    assert [f"ppo_d{case.observation}_b{case.hyperparameters['batch_size']}" for case in QUICK] == keys
    assert make_market(1).features.shape[1:] == (1, 30)


def test_the_products_of_training_are_counted() -> None:
    layers = {"first": 2 * 2 * 33 * 64, "second": 3 * 2 * 64 * 64, "head": 3 * 2 * 64}
    assert product_flops(QUICK[0]) == pytest.approx(10 * 2 * sum(layers.values()))
