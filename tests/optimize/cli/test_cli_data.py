from pathlib import Path

import numpy as np
import pandas as pd

from optimize.data.dataset import load_bars
from optimize.data.spec import DataSpec
from tests.optimize.cli.conftest import Run


def write_bars(path: Path, rows: int = 800, hole: bool = False) -> None:
    stamps = pd.date_range("2024-01-01", periods=rows, freq="h")
    price = 100 + np.sin(np.arange(rows) / 7)
    bars = {
        "timestamp": stamps,
        "open": price,
        "high": price + 1,
        "low": price - 1,
        "close": price,
        "volume": 1.0,
    }
    frame = pd.DataFrame(bars)
    kept = frame.drop(index=range(100, 105)) if hole else frame
    kept.to_csv(path, index=False)


def test_the_embedded_data_are_described_and_cached(run: Run, tmp_path: Path) -> None:
    code, out, err = run("data")
    assert (code, err) == (0, "")
    for words in ("EURUSD", "6225 of 1h", "2017-01-01T22:00:00Z", "24/5 (inferred", "339 bars of warm-up"):
        assert words in out
    (cached,) = [path for path in (tmp_path / "databases" / "market").iterdir() if path.is_dir()]
    assert cached.name in out
    assert [path.name for path in tmp_path.iterdir()] == ["databases"]  # nothing of Hydra's


def test_clean_bars_of_a_file_have_no_finding(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "own bars.csv")
    code, out, _ = run("data", "data=file", 'data.path="own bars.csv"', "check=true")
    assert code == 0
    assert "no finding" in out
    assert not (tmp_path / "databases").exists()


def test_a_hole_is_a_finding(run: Run, tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.csv", hole=True)
    code, out, _ = run("data", "data=file", "data.path=bars.csv", "check=true")
    assert code == 0
    assert "5 bars missing" in out


def test_the_last_months_are_whole_calendar_months() -> None:
    everything, three = load_bars(DataSpec()), load_bars(DataSpec(months=3))
    end = pd.Timestamp(int(everything.bar_end[-1]), tz="UTC")
    first = pd.Timestamp(int(three.timestamp[0]), tz="UTC")
    assert pd.Timedelta(0) <= first - (end - pd.DateOffset(months=3)) < pd.Timedelta(days=3)
    assert np.array_equal(three.close, everything.close[-three.n_bars :])
    assert three.timestamp[-1] == everything.timestamp[-1]
    assert load_bars(DataSpec(months=120)).n_bars == everything.n_bars
