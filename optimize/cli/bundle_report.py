"""The content of a bundle's report: its stored returns, its baselines, and the importance of its features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from optimize.agents.threads import limit_threads
from optimize.bundles.consistency import CARD_FILE
from optimize.bundles.load import Bundle, load_bundle
from optimize.bundles.luck import luck_of_card
from optimize.bundles.manifest import read_json
from optimize.bundles.permutation import FeatureImportance, permute_features
from optimize.bundles.replay import CONFIG, read_window_result, rebuild_checked, with_data_path
from optimize.bundles.spans import METRICS_FILE
from optimize.evaluate.summary import WindowResult
from optimize.extensions import name_extensions
from optimize.report.equity import hold_curves, trial_curves
from optimize.report.html.load import free_curves, with_trades
from optimize.report.html.trial import FeatureEffect, TrialContent, words_of
from optimize.report.market_line import market_line
from optimize.results.outcome import beside_probe, outcome_of, window_record
from optimize.results.records import RunRecord, WindowRecord
from optimize.results.states import RunState
from optimize.schemas.records import ReportConfig
from optimize.study.launch.markets import baseline_record
from optimize.walkforward.files import RETURNS, window_folder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.probe import evaluate_probe
from optimize.walkforward.run import conclude, evaluate_baselines
from optimize.walkforward.spec import read_run


def bundle_content(config: ReportConfig, folder: Path) -> TrialContent:
    """Verify a bundle and return the content of its page; its agents act again for the feature importance."""
    limit_threads(1)
    name_extensions(config.extensions)
    bundle = load_bundle(folder, trust=config.trust)
    manifest, spec = bundle.manifest, with_data_path(bundle.spec, config.data.path)
    windowed = rebuild_checked(spec, manifest.data_fingerprint, str(folder), {})
    measured = _stored(folder, windowed, spec.score.repeats)
    probe = evaluate_probe(spec, windowed).baseline
    baselines = [
        baseline_record(manifest.study, spec.data.target, windowed, each)
        for each in (*evaluate_baselines(spec, windowed, bundle.seed), probe)
    ]
    outcome = outcome_of(spec, windowed, conclude(spec, windowed, measured, None), 0.0, baselines)
    year = windowed.market.sessions_per_year
    beside = beside_probe(measured, np.concatenate(probe.returns), year) | {"probe_score": probe.score}
    run = replace(_run_of(bundle, folder), metrics={**outcome.metrics, **beside})
    windows = _windows(run, windowed, measured)
    curves = trial_curves(folder, windows)
    sessions = next(iter(curves.values())).sessions
    content = TrialContent(
        title=f"bundle {folder.name}: {manifest.study}, {manifest.title}",
        market=market_line(run.spec["data"], (windows[0].test_start, windows[-1].test_end)),
        run=run,
        windows=windows,
        curves=curves,
        free=free_curves(folder, windows),
        holds=hold_curves(baselines, spec.data.target, sessions),
        baselines=baselines,
        trades=None,
        sessions_per_year=windowed.market.sessions_per_year,
        commands=[words_of("walkforge", "replay", f"bundle={folder}")],
        features=effects_of(permute_features(spec, windowed, folder, config.shuffles)),
        notes=[f"deployable policy: {manifest.deployable}"],
        verdict=luck_of_card((folder / CARD_FILE).read_text(encoding="utf-8")),
    )
    return with_trades(content, folder)


def effects_of_run(config: ReportConfig, run: RunRecord, models: Path) -> list[FeatureEffect]:
    """Return the feature importance of the stored models of a trial."""
    limit_threads(1)
    name_extensions(config.extensions)
    spec = with_data_path(read_run(run.spec), config.data.path)
    windowed = rebuild_checked(
        spec, run.data_fingerprint, f"trial {run.trial_number} of {run.study_name}", {}
    )
    return effects_of(permute_features(spec, windowed, models, config.shuffles))


def effects_of(found: Sequence[FeatureImportance]) -> list[FeatureEffect]:
    """Return importances as a report shows them."""
    return [FeatureEffect(each.feature, each.mean, each.low, each.high) for each in found]


def _stored(folder: Path, windowed: WindowedMarket, repeats: int) -> list[list[WindowResult]]:
    """Return the stored results [repeat][window]."""
    return [
        [
            read_window_result(window_folder(folder, window.index, repeat) / RETURNS)
            for window in windowed.windows
        ]
        for repeat in range(repeats)
    ]


def _windows(
    run: RunRecord, windowed: WindowedMarket, measured: Sequence[Sequence[WindowResult]]
) -> list[WindowRecord]:
    return [
        window_record(
            run.run_uuid,
            windowed.market,
            window,
            repeat,
            row[place],
            str(window_folder(Path(), window.index, repeat) / RETURNS),
        )
        for place, window in enumerate(windowed.windows)
        for repeat, row in enumerate(measured)
    ]


def _run_of(bundle: Bundle, folder: Path) -> RunRecord:
    """Return the run behind a bundle as far as its files hold it."""
    manifest, metrics = bundle.manifest, read_json(folder / METRICS_FILE)
    return RunRecord(
        run_uuid=manifest.run_uuid,
        study_name=manifest.study,
        trial_number=manifest.trial or 0,  # an ensemble is named by its members
        parameters=metrics.get("parameters") or {},
        spec=read_json(folder / CONFIG),
        entropy=metrics.get("entropy") or [],
        versions=manifest.trained_with,
        data_fingerprint=manifest.data_fingerprint,
        state=RunState.COMPLETE,
        score=manifest.score,
        standard_error=manifest.standard_error,
    )
