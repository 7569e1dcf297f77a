"""What a bundle states of itself, held against the market, the windows and the results that replay."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.types import Market
from optimize.errors import BadInputError
from optimize.results.records import RunRecord
from optimize.study.export.card import Search, StudyBaseline, card_of, gather, metrics_of
from optimize.study.export.manifest import Manifest, read_json
from optimize.study.export.spans import SPANS, plain_spans, spans_of
from optimize.study.spec import StudySpec, to_plain
from optimize.study.trial import Ground, Measured
from optimize.study.versions import CODE, source

FEATURES, METRICS, CARD = "features.json", "metrics.json", "CARD.md"
TOLERANCE = 1e-9  # relative, of figures
RUN = ("parameters", "entropy")  # of metrics.json: with the manifest they restore the run


def features_of(spec: StudySpec, market: Market) -> dict[str, Any]:
    """Return the content of features.json: the columns of an observation in order, and their bars."""
    return {
        "features": list(market.feature_names),
        "lookback": spec.feature.lookback,
        "timeframe": market.timeframe,
        "symbols": list(market.symbols),
    }


def check_described(
    folder: Path, manifest: Manifest, spec: StudySpec, ground: Ground, again: Sequence[Sequence[Measured]]
) -> tuple[str, ...]:
    """Refuse features, spans, metrics and a card that are not those of the replayed results (again).

    Returns what could not be compared, a line each.
    """
    expected: dict[str, dict[str, Any]] = {FEATURES: features_of(spec, ground.market)}
    if (folder / SPANS).is_file():  # version 0.1 wrote none
        expected[SPANS] = plain_spans(spans_of(ground))
    for name, content in expected.items():
        if read_json(folder / name) != content:
            raise _forged(folder / name)
    metrics = read_json(folder / METRICS)
    if any(name not in metrics for name in RUN):
        if SPANS in expected:
            raise _forged(folder / METRICS)
        return (f"{METRICS} and {CARD} are those of version 0.1 and were not compared",)
    return _check_figures(folder, manifest, spec, ground, again, metrics)


def _check_figures(
    folder: Path,
    manifest: Manifest,
    spec: StudySpec,
    ground: Ground,
    again: Sequence[Sequence[Measured]],
    stored: dict[str, Any],
) -> tuple[str, ...]:
    """Compute metrics.json and CARD.md again and compare them."""
    run = RunRecord(
        run_uuid=manifest.run_uuid,
        study_name=manifest.study,
        trial_number=manifest.trial,
        parameters=stored["parameters"],
        spec=to_plain(spec),
        entropy=stored["entropy"],
        versions=manifest.trained_with,
        data_fingerprint=manifest.data_fingerprint,
        score=manifest.score,
        standard_error=manifest.standard_error,
    )
    evidence = gather(spec, run, ground, again, _search(stored))
    computed = metrics_of(evidence)
    if not same_figures(stored, computed):
        raise _forged(folder / METRICS)
    if manifest.versions.get(CODE) != source(spec.feature.indicators)[CODE]:
        return (f"{CARD} was written by other code and was not compared; {METRICS} was",)
    if (folder / CARD).read_text(encoding="utf-8", errors="replace") != card_of(evidence, computed):
        raise _forged(folder / CARD)
    return ()


def _search(stored: Mapping[str, Any]) -> Search:
    """Return what metrics.json states of the study, which a bundle alone cannot compute again."""
    tries, baseline = stored.get("tries"), stored.get("study_baseline")
    try:
        best = None if baseline is None else StudyBaseline(**baseline)
    except TypeError:  # of other keys: the figures will differ
        best = None
    return Search(tries if isinstance(tries, int) else None, best)


def same_figures(stored: Any, expected: Any) -> bool:
    """Return whether plain values are equal, numbers within the relative tolerance."""
    if isinstance(expected, Mapping):
        return (
            isinstance(stored, Mapping)
            and stored.keys() == expected.keys()
            and all(same_figures(stored[key], value) for key, value in expected.items())
        )
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(stored, list)
            and len(stored) == len(expected)
            and all(map(same_figures, stored, expected))
        )
    if isinstance(expected, float) and isinstance(stored, (int, float)):
        return math.isclose(stored, expected, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(stored == expected)


def _forged(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} does not describe the policies that replay: do not trust it, and export the bundle again"
    )
