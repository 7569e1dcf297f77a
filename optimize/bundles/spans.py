"""The dates of a bundle: end of training, sessions used by the search, first session of new data."""

import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from optimize.bundles.manifest import read_json
from optimize.errors import BadInputError
from optimize.walkforward.files import write_json
from optimize.walkforward.markets import WindowedMarket

SPANS_FILE, METRICS_FILE = "spans.json", "metrics.json"


@dataclass(frozen=True)
class Spans:
    """Sessions of a bundle, by date; every end is exclusive."""

    train_ends: tuple[date, ...]  # end of training of each window; the last is the deployable policy's
    windows_until: date  # first session after the last test span of the search
    holdout: tuple[date, date] | None  # None: no holdout, or not stored by an older version
    eligible_from: date | None  # first session after all data of the study; None: not stored
    refit_until: date | None = None  # end of the refit's training; None: the last window's policy is deployed

    @property
    def trained_until(self) -> date:
        """Return the first session after the training of the deployable policy."""
        return self.refit_until or self.train_ends[-1]


def spans_of(windowed: WindowedMarket, refit_until: date | None = None) -> Spans:
    """Return the spans of a study's windows and market."""
    last: date = windowed.market.session_date[-1].item()
    return Spans(
        train_ends=tuple(window.dates.train_end for window in windowed.windows),
        windows_until=windowed.windows[-1].dates.test_end,
        holdout=windowed.plan.holdout,
        eligible_from=last + timedelta(days=1),
        refit_until=refit_until,
    )


def plain_spans(spans: Spans) -> dict[str, Any]:
    """Return the content of spans.json: ISO dates."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spans), default=str))
    if spans.refit_until is None:  # as every bundle had it before there were refits
        del plain["refit_until"]
    return plain


def write_spans(folder: Path, spans: Spans) -> None:
    """Write spans.json into a bundle."""
    write_json(folder / SPANS_FILE, plain_spans(spans))


def read_spans(folder: Path) -> Spans:
    """Return the spans of a bundle; version 0.1 stored only those of its windows."""
    if not (folder / SPANS_FILE).is_file():
        return _of_metrics(folder / METRICS_FILE)
    plain = read_json(folder / SPANS_FILE)
    try:
        ends = tuple(date.fromisoformat(end) for end in plain["train_ends"])
        windows, eligible = (date.fromisoformat(plain[name]) for name in ("windows_until", "eligible_from"))
        held = plain["holdout"]
        holdout = None if held is None else (date.fromisoformat(held[0]), date.fromisoformat(held[1]))
        until = plain.get("refit_until")
        refit_until = None if until is None else date.fromisoformat(until)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(folder / SPANS_FILE, error) from None
    return Spans(ends, windows, holdout, eligible, refit_until)


def _of_metrics(path: Path) -> Spans:
    """Return the spans that metrics.json lists by window."""
    try:
        windows: list[dict[str, Any]] = read_json(path)["windows"]
        ends = {int(window["window"]): date.fromisoformat(window["train_end"]) for window in windows}
        until = max(date.fromisoformat(window["test_end"]) for window in windows)
        return Spans(tuple(ends[index] for index in sorted(ends)), until, None, None)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BadInputError:
    return BadInputError(f"{path} is damaged ({error!r}): export the bundle again")
