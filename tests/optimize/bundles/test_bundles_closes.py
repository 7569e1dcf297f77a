"""Bars of another asset are recognised by the session closes that a bundle knows."""

from collections.abc import Sequence

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.bundles.closes import check_same_assets
from optimize.data.session_closes import Closes
from optimize.errors import BadInputError

START = np.datetime64("2023-01-02")


def prices(seed: int, count: int = 300, sigma: float = 0.02) -> FloatArray:
    return np.asarray(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, sigma, count))))


def closes(*assets: FloatArray, first: int = 0, names: Sequence[str] = ("GOOG", "MSFT")) -> Closes:
    close = np.stack(assets, axis=1)
    return Closes(tuple(names[: len(assets)]), START + np.arange(first, first + len(close)), close)


KNOWN = closes(prices(0)[:200])
RNG = np.random.default_rng(9)
FEED = np.exp(RNG.normal(0, 0.0005, 300))  # another feed's closes lie some basis points apart


@pytest.mark.parametrize(
    "here",
    [
        closes(prices(0)),
        closes(prices(0)[150:], first=150),
        closes((prices(0) * FEED)[100:], first=100),
        closes(prices(0)[195:], first=195),  # four common sessions, of which the levels are compared
        closes(prices(0)[:40]),
    ],
    ids=["longer", "later", "other feed", "short", "earlier"],
)
def test_bars_of_the_same_asset_pass_without_a_note(here: Closes) -> None:
    assert check_same_assets(KNOWN, here) == ()


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (closes(prices(1)), "its returns differ by .* from those of GOOG .* on the 199 sessions from"),
        (closes(prices(0)[::-1]), "its returns differ"),
        (closes(prices(0)[1:]), "its returns differ"),  # stamped a day early
        (closes(1.1 * prices(1)[195:], first=195), "its closes are .* times those of GOOG on the 4 sessions"),
        (closes(3.0 * prices(0)[205:], first=205), "its close of 2023-07-26 is .* does not reach so soon"),
        (closes(3.0 * prices(0)[:40], first=-50), "its close of 2022-12-22 is .* does not reach so soon"),
    ],
    ids=["other", "reversed", "shifted", "short", "later", "earlier"],
)
def test_bars_of_another_asset_are_refused(here: Closes, words: str) -> None:
    with pytest.raises(BadInputError, match=f"the bars are not of GOOG.*{words}.*data.symbols="):
        check_same_assets(KNOWN, here)


def test_a_correlated_asset_is_another() -> None:
    own, shared = np.random.default_rng(3), np.diff(np.log(prices(0)), prepend=np.log(100))
    alike = 100 * np.exp(np.cumsum(shared + own.normal(0, 0.01, 300)))  # correlation 0.9
    with pytest.raises(BadInputError, match="its returns differ"):
        check_same_assets(KNOWN, closes(alike))


def test_prices_after_a_split_pass_with_a_note() -> None:
    (note,) = check_same_assets(KNOWN, closes(prices(0) / 20))
    assert note.startswith(
        "GOOG: the closes are 0.05 times those that the bundle knows, with the same returns"
    )


def test_bars_without_a_common_session_pass_with_a_note() -> None:
    (note,) = check_same_assets(KNOWN, closes(prices(0)[205:], first=205))
    assert "no session in common with those of the bundle, so nothing but the level" in note


def test_every_asset_is_compared_in_its_order() -> None:
    known = closes(prices(0), prices(1))
    assert check_same_assets(known, closes(prices(0), prices(1))) == ()
    with pytest.raises(BadInputError, match="the bars are not of GOOG"):
        check_same_assets(known, closes(prices(1), prices(0)))


def test_a_session_without_a_price_is_left_out_and_an_asset_without_any_is_named() -> None:
    gaps = prices(0)
    gaps[:5] = np.nan
    assert check_same_assets(KNOWN, closes(gaps)) == ()
    (note,) = check_same_assets(KNOWN, closes(np.full(300, np.nan)))
    assert note.startswith("GOOG: there is no close to compare")


def test_a_bundle_of_an_older_version_passes_with_a_note() -> None:
    (note,) = check_same_assets(None, KNOWN)
    assert "so nothing shows that the bars are of GOOG: export it again" in note
