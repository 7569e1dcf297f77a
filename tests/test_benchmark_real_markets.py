"""Studies of real bars under both settings go through the whole pipeline."""

import json
import sys

import pytest

from benchmarks import real_markets
from benchmarks.real_markets_table import real_markets as as_table


@pytest.mark.slow
@pytest.mark.market_data
@pytest.mark.usefixtures("market_data")
def test_both_settings_end_with_a_score_and_a_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["real_markets.py", "--quick"])
    real_markets.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [each["settings"] for each in result["studies"]] == list(real_markets.SETTINGS)
    assert all(each["score"] is not None and each["tries"] == 5 for each in result["studies"])
    assert as_table(result).count("| SPY |") == 2
