"""The dates of a bundle: end of its training, sessions that its search used, first session of new data."""

import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from optimize.errors import BadInputError
from optimize.study.export.manifest import read_json
from optimize.study.files import write_json
from optimize.study.trial import Ground

SPANS, METRICS = "spans.json", "metrics.json"


@dataclass(frozen=True)
class Spans:
    """Sessions of a bundle, by date; every end is exclusive."""

    train_ends: tuple[date, ...]  # of each window; the last is that of the deployable policy
    windows_until: date  # the last test span of the search ended before this session
    holdout: tuple[date, date] | None  # None: the study had none, or an older version did not store it
    eligible_from: date | None  # first session after all data of the study; None: not stored

    @property
    def trained_until(self) -> date:
        """Return the first session after the training of the deployable policy."""
        return self.train_ends[-1]


def spans_of(ground: Ground) -> Spans:
    """Return the spans of a study's windows and market."""
    last: date = ground.market.session_date[-1].item()
    return Spans(
        train_ends=tuple(window.dates.train_end for window in ground.windows),
        windows_until=ground.windows[-1].dates.test_end,
        holdout=ground.plan.holdout,
        eligible_from=last + timedelta(days=1),
    )


def plain_spans(spans: Spans) -> dict[str, Any]:
    """Return the content of spans.json: ISO dates."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spans), default=str))
    return plain


def write_spans(folder: Path, spans: Spans) -> None:
    """Write spans.json into a bundle."""
    write_json(folder / SPANS, plain_spans(spans))


def read_spans(folder: Path) -> Spans:
    """Return the spans of a bundle; one of version 0.1 knows those of its windows only."""
    if not (folder / SPANS).is_file():
        return _of_metrics(folder / METRICS)
    plain = read_json(folder / SPANS)
    try:
        ends = tuple(date.fromisoformat(end) for end in plain["train_ends"])
        windows, eligible = (date.fromisoformat(plain[name]) for name in ("windows_until", "eligible_from"))
        held = plain["holdout"]
        holdout = None if held is None else (date.fromisoformat(held[0]), date.fromisoformat(held[1]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(folder / SPANS, error) from None
    return Spans(ends, windows, holdout, eligible)


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
