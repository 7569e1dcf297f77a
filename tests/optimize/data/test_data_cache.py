import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from envs.types import Market, array_specs, scalar_types
from optimize import hashing
from optimize.data import cache
from optimize.data.cache import cache_key, cached_market
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from optimize.hashing import hash_file

DATA = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=600))
FEATURE, SESSION = FeatureSpec(), SessionSpec()


def assert_same(one: Market, two: Market) -> None:
    for name in (*array_specs(Market), *scalar_types(Market)):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def refuse_to_build(*_: object) -> Market:
    raise AssertionError("a hit must not build")


def test_a_hit_equals_a_miss_and_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miss = cached_market(DATA, FEATURE, SESSION, tmp_path)
    assert_same(miss, build_market(DATA, FEATURE, SESSION))
    monkeypatch.setattr(cache, "build_market", refuse_to_build)
    hit = cached_market(DATA, FEATURE, SESSION, tmp_path)
    assert_same(hit, miss)
    assert isinstance(hit.features.base, np.memmap)
    assert not hit.features.flags.writeable
    assert type(hit.symbols) is type(hit.feature_names) is tuple


def test_the_manifest_says_what_is_in_the_folder(tmp_path: Path) -> None:
    market = cached_market(DATA, FEATURE, SESSION, tmp_path)
    folder = tmp_path / cache_key(DATA, FEATURE, SESSION)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["rows"] == market.n_bars
    assert manifest["market"]["fingerprint"] == market.fingerprint
    assert set(manifest["files"]) == set(array_specs(Market))
    assert manifest["files"]["close"]["sha256"] == hash_file(folder / "close.npy")
    assert set(manifest) >= {"first", "last", "provider", "indicators", "versions", "written_at"}


def test_the_key_follows_content_and_settings_but_neither_path_nor_lookback(tmp_path: Path) -> None:
    text = "timestamp,open,high,low,close\n2024-01-01,1,2,1,1.5\n2024-01-02,1,2,1,1.5\n"
    for name in ("x_1d_one", "x_1d_two"):
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "x_1d_three.csv").write_text(text.replace("2,1,1.5", "2,1,1.6"))
    one, two, three = (
        DataSpec(provider="file", path=str(tmp_path / f"x_1d_{name}.csv"), timeframe="1d")
        for name in ("one", "two", "three")
    )
    base = cache_key(one, FEATURE, SESSION)
    assert cache_key(two, FeatureSpec(lookback=99), SESSION) == base
    judged = replace(
        one, check=True, refresh=True, max_age=1.0, max_gap_days=1.0, severity={"gaps": "refuse"}
    )
    assert cache_key(judged, FEATURE, SESSION) == base
    others = [
        cache_key(three, FEATURE, SESSION),
        cache_key(replace(one, symbols=["Y"]), FEATURE, SESSION),
        cache_key(replace(one, timeframe="1h"), FEATURE, SESSION),
        cache_key(one, FeatureSpec(indicators=["rsi"]), SESSION),
        cache_key(one, FEATURE, SessionSpec(calendar="XNYS")),
        cache_key(DATA, FEATURE, SESSION),
    ]
    assert len({base, *others}) == 7


def _swapping(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> DataSpec:
    """Return bars of a file that another process replaces, so many times, after its content was hashed."""
    path = folder / "x_1h.csv"

    def write(base: float) -> None:
        walk = base + np.sin(np.arange(600.0))
        hours = pd.date_range("2024-01-01", periods=600, freq="h")
        rows = (f"{hour:%Y-%m-%d %H:%M},{p},{p + 1},{p - 1},{p}" for hour, p in zip(hours, walk, strict=True))
        path.write_text("timestamp,open,high,low,close\n" + "\n".join(rows))

    write(100.0)
    left = list(range(times))

    def swapped(*arguments: Any) -> Market:
        if left:
            write(200.0 + left.pop())
        return build_market(*arguments)

    monkeypatch.setattr(cache, "build_market", swapped)
    return DataSpec(provider="file", path=str(path))


def test_a_file_that_is_replaced_while_it_is_read_does_not_poison_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _swapping(tmp_path, monkeypatch, times=1)
    first = cache_key(data, FEATURE, SESSION)
    market = cached_market(data, FEATURE, SESSION, tmp_path / "cache")
    assert_same(market, build_market(data, FEATURE, SESSION))
    assert cache_key(data, FEATURE, SESSION) != first
    folders = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert folders == [cache_key(data, FEATURE, SESSION)], "nothing is kept under the old content's key"


def test_a_file_that_never_stays_the_same_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _swapping(tmp_path, monkeypatch, times=99)
    with pytest.raises(BadInputError, match=r"the bars change while they are read \(.*x_1h.csv\)") as refusal:
        cached_market(data, FEATURE, SESSION, tmp_path / "cache")
    assert "\n" not in str(refusal.value)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def _tear_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def _drop_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _cut_array(folder: Path) -> None:
    data = (folder / "close.npy").read_bytes()
    (folder / "close.npy").unlink()
    (folder / "close.npy").write_bytes(data[:-8])


def _other_array(folder: Path) -> None:
    other = np.load(folder / "close.npy")[:-1]
    (folder / "close.npy").unlink()
    np.save(folder / "close.npy", other)


def _drop_array(folder: Path) -> None:
    (folder / "features.npy").unlink()


def _wrong_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def _drop_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "spoil",
    [_tear_manifest, _drop_manifest, _cut_array, _other_array, _drop_array, _wrong_manifest, _drop_folder],
)
def test_a_spoiled_folder_is_built_again(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    whole = build_market(DATA, FEATURE, SESSION)
    cached_market(DATA, FEATURE, SESSION, tmp_path)
    folder = tmp_path / cache_key(DATA, FEATURE, SESSION)
    spoil(folder)
    assert_same(cached_market(DATA, FEATURE, SESSION, tmp_path), whole)
    assert cache._read(folder) is not None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]


def test_a_failed_write_leaves_no_half_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(cache, "_store", fail)
    with pytest.raises(OSError, match="disk full"):
        cached_market(DATA, FEATURE, SESSION, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def _read_in_process(cache_dir: str) -> str:
    market = cached_market(DATA, FEATURE, SESSION, Path(cache_dir))
    return f"{market.fingerprint} {float(market.close.sum())!r}"


@pytest.mark.slow
def test_processes_that_start_together_share_one_copy(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        answers = pool.map(_read_in_process, [str(tmp_path)] * 6)
    market = build_market(DATA, FEATURE, SESSION)
    assert set(answers) == {f"{market.fingerprint} {float(market.close.sum())!r}"}
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def spoil_closes(folder: Path) -> None:
    """Change 100 bars in place, as a bad disk or a hand would."""
    close = np.load(folder / "close.npy", mmap_mode="r+")
    close[200:300] *= 1.01
    close.flush()
    del close


def spoil_manifest(folder: Path) -> None:
    path = folder / cache.MARKET_MANIFEST
    path.write_text(path.read_text().replace('"sessions_per_year": 3', '"sessions_per_year": 9'))


@pytest.mark.parametrize("spoil", [spoil_closes, spoil_manifest])
def test_a_market_that_was_changed_on_disk_is_built_anew(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    whole = build_market(DATA, FEATURE, SESSION)
    cached_market(DATA, FEATURE, SESSION, tmp_path)
    folder = tmp_path / cache_key(DATA, FEATURE, SESSION)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} != before
    assert_same(cached_market(DATA, FEATURE, SESSION, tmp_path), whole)


def test_an_array_is_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "SETTLED_NS", 0)
    cached_market(DATA, FEATURE, SESSION, tmp_path)
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.suffix)
        return hash_file(path)

    monkeypatch.setattr(hashing, "hash_file", counted)
    cached_market(DATA, FEATURE, SESSION, tmp_path)
    assert ".npy" not in hashed
