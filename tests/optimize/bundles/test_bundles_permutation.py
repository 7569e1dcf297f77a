"""Importance of features: shuffled within the test spans of a copy, measured by the stored agents."""

import shutil
from html import escape
from pathlib import Path

import numpy as np

from optimize.bundles.consistency import CARD_FILE
from optimize.bundles.load import load_bundle
from optimize.bundles.luck import luck_of_card
from optimize.bundles.permutation import _shuffled, permute_features
from optimize.walkforward.markets import build_windowed_market
from tests.optimize.study.bundles import Exports


def test_every_feature_has_an_interval_and_the_market_stays_as_it_is(exports: Exports) -> None:
    folder = Path(exports.exported[0].folder)
    spec = load_bundle(folder).spec
    windowed = build_windowed_market(spec, None)
    before = windowed.market.features.copy()
    found = permute_features(spec, windowed, folder, shuffles=3)
    assert sorted(each.feature for each in found) == sorted(windowed.market.feature_names)
    assert all(each.low <= each.mean <= each.high for each in found)
    assert [each.mean for each in found] == sorted((each.mean for each in found), reverse=True)
    assert permute_features(spec, windowed, folder, shuffles=3) == found
    assert np.array_equal(windowed.market.features, before)


def test_blocks_of_one_feature_change_places_within_their_test_span(exports: Exports) -> None:
    spec = load_bundle(Path(exports.exported[0].folder)).spec
    windowed = build_windowed_market(spec, None)
    shuffled = _shuffled(windowed, 0, spec.feature.lookback, np.random.default_rng(0)).market.features
    same = windowed.market.features == shuffled
    inside = np.zeros(len(same), np.bool_)
    for window in windowed.windows:
        span = slice(window.test_first, window.test_last + 1)
        inside[span] = True
        assert np.array_equal(np.sort(shuffled[span, 0, 0]), np.sort(windowed.market.features[span, 0, 0]))
    assert same[~inside].all()
    assert same[:, :, 1:].all()
    assert not same[inside, :, 0].all()


def test_a_folder_without_models_has_no_importance(exports: Exports, tmp_path: Path) -> None:
    spec = load_bundle(Path(exports.exported[0].folder)).spec
    windowed = build_windowed_market(spec, None)
    assert permute_features(spec, windowed, tmp_path, shuffles=1) == []


def test_the_page_of_a_bundle_stands_beside_it_and_the_bundle_stays_whole(
    exports: Exports, bundle: Path
) -> None:
    from optimize.cli.report import write_report
    from optimize.schemas.records import ReportConfig

    write_report(ReportConfig(bundle=str(bundle), shuffles=1))
    page = bundle.with_name("bundle.html").read_text(encoding="utf-8")
    assert "Feature importance" in page
    assert f"{load_bundle(bundle).manifest.score:+.2f}" in page
    luck = luck_of_card((bundle / CARD_FILE).read_text(encoding="utf-8"))
    assert luck[0].startswith("verdict: ")
    assert luck[-1].startswith("Interval: ")
    assert all(f"<p>{escape(line)}</p>" in page for line in luck)
    shutil.rmtree(bundle)
