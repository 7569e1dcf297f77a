"""`walkforge evaluate`."""

import dataclasses
from pathlib import Path

from optimize.agents.threads import limit_threads
from optimize.bundles.changes import changed
from optimize.bundles.evaluate import (
    EVERY_WINDOW,
    EvaluationPlan,
    differences_of,
    plan_evaluation,
    run_evaluation,
)
from optimize.bundles.holdout import open_holdout, open_other_holdouts, other_holdouts
from optimize.bundles.load import Bundle, load_bundle
from optimize.bundles.replay import replay_bundle
from optimize.cli.window_results import show_result
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.data.sources.files.parts import stated_symbol
from optimize.data.sources.read_once import reading_once
from optimize.data.spec import DataSpec
from optimize.data.symbols import alike
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.evaluate.windows import inline_file
from optimize.extensions import name_extensions
from optimize.report.tables import say
from optimize.results.creation import create_tables
from optimize.schemas.studies import ActConfig, EvaluateConfig
from optimize.walkforward.spec import RunSpec


@reading_once()
def evaluate(config: EvaluateConfig) -> int:
    """Evaluate a bundle's models on the chosen spans; 1 where they come to no score."""
    bundle = opened_bundle(config)
    spec = changed_spec(bundle.spec, config)
    different = differences_of(bundle.spec, spec)
    for line in different:
        say(line)
    if different:
        enforce_report(
            inspect_bars(spec.data, spec.session), say, reads_volume=reads_volume(spec.feature.indicators)
        )
    plan = plan_evaluation(bundle, spec, config.span, other_assets=states_symbols(config.data))
    for line in plan.notes:
        say(line)
    _log_opening(config, bundle, plan)
    proof = (
        replay_bundle(Path(config.bundle)).verdict if config.span == EVERY_WINDOW and not different else None
    )
    windowed, result, baselines = run_evaluation(
        bundle, plan, config.span, None if config.deterministic else config.seed
    )
    title = f"{bundle.manifest.study}, {bundle.manifest.title}: {config.span}"
    show_result(spec, windowed, result, baselines, title)
    _say_short(plan)
    if proof is not None:
        say(f"{config.bundle}: nothing was trained; {proof}")
    return 0 if result.score.feasible else 1


def opened_bundle(config: ActConfig | EvaluateConfig) -> Bundle:
    """Load the named bundle for use in this process, with the user's extensions registered before."""
    limit_threads(1)
    if not config.bundle:
        raise BadInputError(
            "bundle is missing: name its folder, such as bundle=studies/NAME/exports/01_trial_0000"
        )
    name_extensions(config.extensions)
    return load_bundle(config.bundle, trust=config.trust)


def changed_spec(theirs: RunSpec, config: EvaluateConfig) -> RunSpec:
    """Return the bundle's spec with the keys that were stated in its place."""
    window = config.window
    listed = theirs.window
    if window.file is not None or window.spans:  # type: ignore[attr-defined]  # a made dataclass
        listed = dataclasses.replace(listed, kind="rolling", spans=[], holdout_share=0.0, holdout=[])
    return dataclasses.replace(
        theirs,
        data=data_here(theirs.data, config.data),
        cost=changed(theirs.cost, config.cost),
        window=inline_file(changed(listed, window)),
    )


def data_here(theirs: DataSpec, changes: object) -> DataSpec:
    """Return the bundle's data with the keys stated; another path is read as a file, and whole."""
    here = changed(theirs, changes)
    if here.symbols != theirs.symbols and sorted(here.symbols) == sorted(theirs.symbols):
        raise BadInputError(
            f"data.symbols=[{','.join(here.symbols)}] is not allowed: the bundle's policy reads "
            f"{', '.join(theirs.symbols)} in this order; leave the key out"
        )
    if here.timeframe != theirs.timeframe:
        raise BadInputError(
            f"data.timeframe={here.timeframe!r} is not allowed: the bundle trades {theirs.timeframe} bars; "
            "leave the key out, as finer bars are resampled to them"
        )
    if here.path == theirs.path:
        return here
    if not states_symbols(changes):
        _refuse_other_symbol(theirs, here)
    stated = {key: getattr(changes, key, None) for key in ("months", "start", "end")}
    whole = {key: value for key, value in stated.items() if hasattr(here, key)}
    provider = getattr(changes, "provider", None) or "file"
    return dataclasses.replace(here, provider=provider, **whole)  # type: ignore[arg-type]  # by field name


def states_symbols(changes: object) -> bool:
    """Return whether data.symbols is stated, which confirms bars of other symbols than the bundle's."""
    return bool(getattr(changes, "symbols", None))


def _refuse_other_symbol(theirs: DataSpec, here: DataSpec) -> None:
    """Refuse a file whose name states another symbol than the bundle's, or than that of the bundle's file."""
    named = stated_symbol(here.path)
    own = [*theirs.symbols, stated_symbol(theirs.path) or ""]
    if named is None or alike(named) in {alike(each) for each in own}:
        return
    raise BadInputError(
        f"data.path={here.path} is of {named} by its name, but the bundle trades "
        f"{', '.join(theirs.symbols)}: give bars of that, or data.symbols=[{named}] to take them all the same"
    )


def _log_opening(config: EvaluateConfig, bundle: Bundle, plan: EvaluationPlan) -> None:
    """Store that a part of a holdout is read, before it is; print how often that has happened."""
    if plan.opened is None and not _reads_others(config.database.url, bundle, plan):
        return
    engine = open_engine(config.database.url)
    try:
        create_tables(engine)
        lines = [] if plan.opened is None else [open_holdout(engine, bundle, plan, "evaluate")[1]]
        lines += open_other_holdouts(engine, bundle, plan, "evaluate")
    finally:
        engine.dispose()
    for line in lines:
        say(line)


def _reads_others(url: str, bundle: Bundle, plan: EvaluationPlan) -> bool:
    """Return whether the planned spans read a holdout of another study that nobody has opened."""
    try:
        engine = open_engine(url, read_only=True)
    except BadInputError:  # there is no database yet
        return False
    try:
        with engine.connect() as conn:
            return bool(other_holdouts(conn, bundle, plan))
    finally:
        engine.dispose()


def _say_short(plan: EvaluationPlan) -> None:
    """Print that a span is too short for a score."""
    sessions = sum(window.dates.test_sessions for window in plan.windows)
    if sessions < plan.spec.score.min_periods:
        say(f"{sessions} sessions: no score below score.min_periods={plan.spec.score.min_periods}")
