"""A feature of an extension declares a key of its own, and every rule about keys follows by itself."""

import dataclasses
import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.fields import keys_of
from envs.plain import from_plain, to_plain
from optimize.data.cache import cache_key
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from optimize.extensions import load_extensions
from optimize.search.rules import check_space
from optimize.search.space import apply, parse_space
from optimize.study.context import differing_settings
from optimize.study.spec import StudySpec
from optimize.walkforward.spec import resolve_run
from tests.conftest import REPOSITORY

CODE = """
import numpy as np

from optimize.data.features.registry import AssetBars, feature, feature_key


@feature(
    "wave",
    warmup=lambda keys: keys["wave_length"],
    keys={"wave_length": feature_key(5, "Length of the wave.", unit="bars", low=2, high=50)},
)
def wave(bars: AssetBars) -> list[np.ndarray]:
    return [np.sin(np.arange(len(bars.close)) * 2 * np.pi / bars.keys["wave_length"])]
"""


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    path = tmp_path / "my_wave.py"
    path.write_text(CODE, encoding="utf-8")
    load_extensions([str(path)])
    return StudySpec(
        name="waves",
        extensions=[str(path)],
        data=DataSpec(
            provider="synthetic", timeframe="1h", source_timeframe="1h", synthetic=SyntheticSpec(bars=300)
        ),
        session=SessionSpec(calendar="24/7"),
        feature=FeatureSpec(indicators=["returns", "wave"]),
    )


def _with(spec: StudySpec, value: Any) -> StudySpec:
    return apply(spec, {"feature.wave_length": value})


def test_the_key_is_declared_with_its_meaning_range_and_default(spec: StudySpec) -> None:
    key = keys_of(StudySpec)["feature.wave_length"]
    assert (key.default, key.setting.meaning, key.setting.range) == (
        5, "Length of the wave.", "from 2 to 50 (bars)",
    )  # fmt: skip
    assert key.setting.role == "market"
    assert key.unsearchable is None
    assert not key.changeable


def test_it_stands_under_feature_where_specs_are_stored(spec: StudySpec) -> None:
    changed = _with(spec, 7)
    plain = to_plain(changed)
    assert plain["feature"]["wave_length"] == 7
    assert "parameters" not in plain["feature"]
    assert from_plain(StudySpec, plain) == changed


def test_it_decides_the_market_and_its_cache_key(spec: StudySpec, tmp_path: Path) -> None:
    keys, values = set(), []
    for each in (spec, _with(spec, 5), _with(spec, 8)):
        keys.add(cache_key(each.data, each.feature, each.session))
        values.append(build_market(each.data, each.feature, each.session).features[-20:, 0, 1])
    assert len(keys) == 2  # the default is the value 5
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_it_decides_the_fingerprint_of_the_market_unless_it_is_at_its_default(spec: StudySpec) -> None:
    unset, default, longer, longest = (
        build_market(each.data, each.feature, each.session).fingerprint
        for each in (spec, _with(spec, 5), _with(spec, 7), _with(spec, 9))
    )
    assert unset == default
    assert len({unset, longer, longest}) == 3
    unread = dataclasses.replace(_with(spec, 7).feature, indicators=["returns"])
    assert build_market(spec.data, unread, spec.session).fingerprint == (
        build_market(spec.data, FeatureSpec(indicators=["returns"]), spec.session).fingerprint
    )


def test_bars_are_too_few_by_the_value_of_the_key_and_not_by_its_default(
    spec: StudySpec, tmp_path: Path
) -> None:
    path = tmp_path / "long_wave.py"
    path.write_text(CODE.replace("feature_key(5,", "feature_key(5000,").replace("50)", "9000)"), "utf-8")
    load_extensions([str(path)])
    assert build_market(spec.data, _with(spec, 7).feature, spec.session).n_bars == 293
    with pytest.raises(BadInputError, match=r"features need 5000 to settle"):
        build_market(spec.data, spec.feature, spec.session)


def test_a_study_is_not_resumed_with_another_value(spec: StudySpec) -> None:
    stored = to_plain(spec)
    assert differing_settings(stored, to_plain(_with(spec, 5))) == []
    assert differing_settings(stored, to_plain(_with(spec, 8))) == [
        "feature.wave_length: started with 5, now 8"
    ]


def test_a_space_may_search_it_where_a_feature_reads_it(spec: StudySpec) -> None:
    space = parse_space({"feature": {"wave_length": [5, 10]}})
    check_space(spec, space)
    unread = dataclasses.replace(spec, feature=FeatureSpec(indicators=["returns"]))
    with pytest.raises(BadInputError, match=r"no feature of a trial reads it; add wave to feature.ind"):
        check_space(unread, space)
    with pytest.raises(BadInputError, match=r"space.feature.wave_length offers 1: feature.wave_length=1 is"):
        check_space(spec, parse_space({"feature": {"wave_length": [1, 5]}}))


def test_the_example_of_the_guide_is_built_with_its_key(spec: StudySpec, tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# my_wave\.py\n.*?)```", guide, re.DOTALL)
    (tmp_path / "guide_wave.py").write_text(code, encoding="utf-8")
    load_extensions([str(tmp_path / "guide_wave.py")])
    market = build_market(spec.data, _with(spec, 24).feature, spec.session)
    assert market.n_bars == 276
    np.testing.assert_allclose(
        market.features[24:, 0, 1], np.log(market.close[24:, 0] / market.close[:-24, 0]), rtol=1e-4, atol=1e-6
    )


def test_two_features_of_a_file_may_not_declare_a_key_differently(tmp_path: Path) -> None:
    second = CODE.partition("@feature(")[2].replace("wave(", "tide(").replace('"wave"', '"tide"')
    alike, different = tmp_path / "alike.py", tmp_path / "different.py"
    alike.write_text(f"{CODE}\n\n@feature({second}", encoding="utf-8")
    different.write_text(f"{CODE}\n\n@feature({second.replace('key(5', 'key(7')}", encoding="utf-8")
    load_extensions([str(alike)])
    with pytest.raises(
        BadInputError, match=r"wave_length is declared by wave and, differently, by tide: give"
    ):
        load_extensions([str(different)])


def test_an_unknown_key_and_a_wrong_value_are_refused(spec: StudySpec) -> None:
    with pytest.raises(BadInputError, match=r"did you mean feature.wave_length\?"):
        resolve_run(apply(spec, {"feature.wave_lenght": 3}))
    with pytest.raises(BadInputError, match=r"feature.wave_length=99 .* from 2 to 50 \(bars\)"):
        resolve_run(_with(spec, 99))


def test_the_reference_page_has_it(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = {"config.defaults": ("MkDocsConfig",), "structure.files": ("File", "Files")}
    for name, classes in stubs.items():  # the generator needs their names alone
        module = types.ModuleType(f"mkdocs.{name}")
        for each in classes:
            setattr(module, each, object)
        monkeypatch.setitem(sys.modules, f"mkdocs.{name}", module)
    page = "\n".join(runpy.run_path(str(REPOSITORY / "docs" / "reference_pages.py"))["configuration"]())
    (row,) = (line for line in page.splitlines() if "`feature.wave_length`" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["`5`", "Length of the wave.", "from 2 to 50 (bars)", "\u2713"]
