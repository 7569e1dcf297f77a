"""Consistency of a bundle: its descriptions agree with the market, the windows and the replayed results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from envs.plain import to_plain
from optimize.bundles.card import GATE_FIGURES, card_of
from optimize.bundles.closes import CLOSES_FILE, plain_closes
from optimize.bundles.gates import GateCheck
from optimize.bundles.inputs import SearchSummary, StudyBaseline, collect_inputs
from optimize.bundles.manifest import MANIFEST_FILE, Manifest, read_json
from optimize.bundles.metrics import metrics_of
from optimize.bundles.observed import FEATURES_FILE, features_of
from optimize.bundles.spans import METRICS_FILE, SPANS_FILE, plain_spans, read_spans, spans_of
from optimize.bundles.titles import members_of
from optimize.data.session_closes import closes_of
from optimize.errors import BadInputError
from optimize.evaluate.summary import WindowResult
from optimize.report.verdict import VERDICT_WORDS
from optimize.results.luck import LuckRecord, LuckTest
from optimize.results.records import RunRecord
from optimize.results.states import LuckVerdict
from optimize.source_code import package_digest
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.refit import plan_refit, refit_end
from optimize.walkforward.spec import RunSpec
from optimize.walkforward.versions import CARD, CODE, SOURCE, source

CARD_FILE = "CARD.md"
Luck = TypeVar("Luck", LuckTest, LuckRecord)
FIGURE_TOLERANCE = 1e-9  # relative
# Figures of metrics.json that later versions added: bundles of earlier ones lack them.
ADDED_FIGURES = frozenset(
    {
        "largest_exposure", "action_range", "liquidations", "sharpe_in_sample",
        "positions", "holding_bars", "sortino", "calmar",
        "cagr", "volatility", "drawdown_sessions", "hit_rate",
        "profit_factor", "tail_ratio", "cost_drag", "degradation",
        "walk_forward_efficiency", "window_spread", "alpha", "beta",
        "years",
    }
)  # fmt: skip
CARD_PACKAGES = ("bundles", "report")  # of optimize; a card has the words of both
RUN_KEYS = ("parameters", "entropy")  # keys of metrics.json that restore the run together with the manifest


def card_code() -> dict[str, str]:
    """Return the digests of the packages that write a card, for the versions in a manifest."""
    digests = [f"{name}:{package_digest(SOURCE / 'optimize' / name)}" for name in CARD_PACKAGES]
    return {CARD: " ".join(digests)}


def check_consistency(
    folder: Path,
    manifest: Manifest,
    spec: RunSpec,
    windowed: WindowedMarket,
    again: Sequence[Sequence[WindowResult]],
) -> tuple[str, ...]:
    """Refuse features, spans, metrics and a card that do not follow from the results of its replay, `again`.

    Returns a line for each part that could not be compared.
    """
    expected: dict[str, dict[str, Any]] = {FEATURES_FILE: features_of(spec, windowed.market)}
    if (folder / SPANS_FILE).is_file():  # not written by version 0.1
        refit_until = None if read_spans(folder).refit_until is None else refit_end(windowed)
        spans = spans_of(windowed, refit_until)
        expected[SPANS_FILE] = plain_spans(spans)
        dates = (str(spans.trained_until), str(spans.eligible_from))
        if manifest.format > 1 and (manifest.trained_until, manifest.eligible_from) != dates:
            raise _forged(folder / MANIFEST_FILE)
    if (folder / CLOSES_FILE).is_file():  # nor this one by earlier ones
        expected[CLOSES_FILE] = plain_closes(closes_of(windowed.market))
    for name, content in expected.items():
        if read_json(folder / name) != content:
            raise _forged(folder / name)
    metrics = read_json(folder / METRICS_FILE)
    if any(name not in metrics for name in RUN_KEYS):
        if SPANS_FILE in expected:
            raise _forged(folder / METRICS_FILE)
        return (f"{METRICS_FILE} and {CARD_FILE} are those of version 0.1 and were not compared",)
    return _check_figures(folder, manifest, spec, windowed, again, metrics)


def _check_figures(
    folder: Path,
    manifest: Manifest,
    spec: RunSpec,
    windowed: WindowedMarket,
    again: Sequence[Sequence[WindowResult]],
    stored: dict[str, Any],
) -> tuple[str, ...]:
    """Compute metrics.json and CARD.md again and compare them."""
    run = RunRecord(
        run_uuid=manifest.run_uuid,
        study_name=manifest.study,
        trial_number=manifest.trial or 0,  # an ensemble is named by its members
        parameters=stored["parameters"],
        spec=to_plain(spec),
        entropy=stored["entropy"],
        versions=manifest.trained_with,
        data_fingerprint=manifest.data_fingerprint,
        score=manifest.score,
        standard_error=manifest.standard_error,
        random_quantile=quantile if isinstance(quantile := stored.get("random_quantile"), float) else None,
        flags=flags if isinstance(flags := stored.get("flags"), str) else None,
    )
    plan = None
    if read_spans(folder).refit_until is not None:
        plan = plan_refit(windowed, spec.feature.history, again, stored["entropy"])
    inputs = collect_inputs(spec, run, windowed, again, _search_summary(stored), plan, _gates(stored))
    if plan is not None and manifest.deployable != inputs.label:
        raise _forged(folder / MANIFEST_FILE)
    if manifest.format > 2 and (manifest.trial is None) != bool(members_of(run)):
        raise _forged(folder / MANIFEST_FILE)
    if manifest.members != (members_of(run) if manifest.format > 2 else []):
        raise _forged(folder / MANIFEST_FILE)
    computed = metrics_of(inputs)
    if not same_figures(stored, computed):
        raise _forged(folder / METRICS_FILE)
    here = source(spec.feature.indicators, spec.extensions) | card_code()
    if any(manifest.versions.get(key) != here[key] for key in (CODE, CARD)):
        return (f"{CARD_FILE} was written by other code and was not compared; {METRICS_FILE} was",)
    if (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace") != card_of(inputs, computed):
        raise _forged(folder / CARD_FILE)
    return ()


def _search_summary(stored: Mapping[str, Any]) -> SearchSummary:
    """Return the facts of the study in metrics.json, which cannot be computed from a bundle."""
    tries, baseline = stored.get("tries"), stored.get("study_baseline")
    try:
        best = None if baseline is None else StudyBaseline(**baseline)
    except TypeError:  # other keys: the comparison of the figures fails later
        best = None
    test, sets = _luck(stored.get("luck"))
    opened = stored.get("holdout_openings")
    counts = [each if isinstance(each, int) else None for each in (tries, opened)]
    cautions, earned = stored.get("cautions"), stored.get("search_earned")
    said = tuple(map(str, cautions)) if isinstance(cautions, list) else ()
    lines = tuple(map(str, earned)) if isinstance(earned, list) else ()
    return SearchSummary(counts[0], best, counts[1], test, sets, said, lines)


def _gates(stored: Mapping[str, Any]) -> tuple[GateCheck, ...] | None:
    """Return the gates in metrics.json that a bundle passed; None where an older version stored none."""
    found = stored.get("gates")
    if not isinstance(found, Mapping):
        return None
    entries = [(gate, each) for gate, each in found.items() if isinstance(each, Mapping)]
    judged = [(gate, each.get("limit"), each.get("figure")) for gate, each in entries if gate in GATE_FIGURES]
    return tuple(
        GateCheck(gate, limit, figure)
        for gate, limit, figure in judged
        if isinstance(limit, (int, float, str)) and isinstance(figure, (int, float, NoneType))
    )


def _luck(stored: Any) -> tuple[LuckTest | None, tuple[LuckRecord, ...]]:
    """Return the stored luck of the study and of the set; nothing of a wrong form, which the figures show."""
    if not isinstance(stored, Mapping):
        return None, ()
    test, own = _luck_record(LuckTest, stored.get("study")), _luck_record(LuckRecord, stored.get("set"))
    return test, () if own is None else (own,)


def _luck_record(kind: type[Luck], stored: Any) -> Luck | None:
    """Return a record of plain values; None where a field is missing, is another's, or has a wrong type."""
    hints = get_type_hints(kind)
    if not isinstance(stored, Mapping) or stored.keys() != hints.keys():
        return None
    if not all(_fits(stored[name], hint) for name, hint in hints.items()):
        return None
    return kind(**stored)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value may be that of a field."""
    kinds: tuple[Any, ...] = get_args(hint) or (hint,)
    if LuckVerdict in kinds:
        return isinstance(value, str) and value in VERDICT_WORDS
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def same_figures(stored: Any, expected: Any) -> bool:
    """Return whether plain values are equal, numbers within the relative tolerance."""
    if isinstance(expected, Mapping):
        return (
            isinstance(stored, Mapping)
            and stored.keys() <= expected.keys()
            and expected.keys() - stored.keys() <= ADDED_FIGURES
            and all(same_figures(value, expected[key]) for key, value in stored.items())
        )
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(stored, list)
            and len(stored) == len(expected)
            and all(map(same_figures, stored, expected))
        )
    if isinstance(expected, float) and isinstance(stored, (int, float)):
        return math.isclose(stored, expected, rel_tol=FIGURE_TOLERANCE, abs_tol=1e-12)
    return bool(stored == expected)


def _forged(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} does not describe the policies that replay: do not trust it, and export the bundle again"
    )
