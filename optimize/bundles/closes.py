"""The session closes that a bundle knows, by which bars of another asset are recognised."""

from pathlib import Path
from typing import Any

import numpy as np

from optimize.bundles.manifest import read_json
from optimize.data.session_closes import CLOSE_DIGITS, COMPARED, RETURN_SHARE, Closes, priced
from optimize.errors import BadInputError

CLOSES_FILE = "closes.json"
RETURN_FLOOR = 1e-4  # rounding of prices, for assets that hardly move
LEVEL = 0.02  # closes of two feeds of one asset are nearer, in logarithms
JUMP_SIGMAS = 4.0  # standard deviations of a session's return, over the days between
JUMP_FLOOR = 0.2  # in logarithms: assets jump overnight


def plain_closes(closes: Closes) -> dict[str, Any]:
    """Return the content of closes.json: a list of closes for each symbol, null without a price."""
    return {
        "symbols": list(closes.symbols),
        "dates": [str(day) for day in closes.date],
        "closes": [[_short(value) for value in column] for column in closes.close.T],
    }


def _short(value: float) -> float | None:
    return float(f"{value:.{CLOSE_DIGITS}g}") if np.isfinite(value) else None


def read_closes(folder: Path) -> Closes | None:
    """Return the session closes of a bundle; None of one that an older version exported."""
    path = folder / CLOSES_FILE
    if not path.is_file():
        return None
    plain = read_json(path)
    try:
        days = np.array(plain["dates"], dtype="datetime64[D]")
        close = np.array(plain["closes"], dtype=np.float64).T
        symbols = tuple(map(str, plain["symbols"]))
        if close.shape != (len(days), len(symbols)):
            raise ValueError(f"closes of shape {close.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path} is damaged ({error!r}): export the bundle again") from None
    return Closes(symbols, days, close)


def check_same_assets(known: Closes | None, here: Closes) -> tuple[str, ...]:
    """Refuse bars whose closes are not those of the bundle's assets; return notes where that is not certain.

    On common sessions the returns must agree, as splits and dividends rescale the prices of one asset.
    """
    if known is None:
        return (
            f"an older version exported this bundle without {CLOSES_FILE}, so nothing shows that the bars "
            f"are of {', '.join(here.symbols)}: export it again",
        )
    notes = (_compare(known, here, asset) for asset in range(len(known.symbols)))
    return tuple(note for note in notes if note is not None)


def _compare(known: Closes, here: Closes, asset: int) -> str | None:
    """Compare one asset; return a note where the prices leave a doubt, None where they agree."""
    symbol = known.symbols[asset]
    before, now = priced(known, asset), priced(here, asset)
    if not len(before.date) or not len(now.date):
        return f"{symbol}: there is no close to compare, so nothing shows that the bars are of it"
    # The last session of either may have been cut short.
    days, old, new = np.intersect1d(before.date[:-1], now.date[:-1], return_indices=True)
    if not len(days):
        return _compare_levels(symbol, before, now)
    theirs, ours = np.log(before.close[old, 0]), np.log(now.close[new, 0])
    level = float(np.median(ours - theirs))
    span = f"on the {len(days)} sessions from {days[0]} to {days[-1]}, which the bundle knows"
    if len(days) < COMPARED:
        if abs(level) > LEVEL:
            raise _other(symbol, f"its closes are {np.exp(level):.3g} times those of {symbol} {span}")
        return None
    apart = float(np.median(np.abs(np.diff(ours - theirs))))
    usual = float(np.median(np.abs(np.diff(theirs))))
    if apart > max(RETURN_SHARE * usual, RETURN_FLOOR):
        raise _other(
            symbol, f"its returns differ by {apart:.2%} from those of {symbol} (usual: {usual:.2%}) {span}"
        )
    if abs(level) > LEVEL:
        return (
            f"{symbol}: the closes are {np.exp(level):.3g} times those that the bundle knows, with the same "
            "returns: prices adjusted otherwise, or an asset that moves alike"
        )
    return None


def _compare_levels(symbol: str, before: Closes, now: Closes) -> str:
    """Compare the closes on both sides of the time between bars without a common session."""
    later = now.date[0] > before.date[-1]
    (old, new) = (-1, 0) if later else (0, -1)
    jump = abs(float(np.log(now.close[new, 0] / before.close[old, 0])))
    days = max(1, abs(int((now.date[new] - before.date[old]).astype(int))))
    returns = np.diff(np.log(before.close[:, 0]))
    usual = float(returns.std()) if len(returns) else 0.0
    ratio = f"{now.close[new, 0] / before.close[old, 0]:.3g} times the bundle's of {before.date[old]}"
    if jump > max(JUMP_FLOOR, JUMP_SIGMAS * usual * days**0.5):
        raise _other(
            symbol, f"its close of {now.date[new]} is {ratio}, which {symbol} does not reach so soon"
        )
    return (
        f"{symbol}: the bars have no session in common with those of the bundle, so nothing but the level "
        f"shows that they are of it: the close of {now.date[new]} is {ratio}"
    )


def _other(symbol: str, found: str) -> BadInputError:
    return BadInputError(
        f"the bars are not of {symbol}, which the bundle trades: {found}; give bars of {symbol}, or "
        "data.symbols=[NAME] to take others all the same (in Python other_assets=True)"
    )
