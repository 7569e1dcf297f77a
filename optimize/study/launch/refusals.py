"""Refusals of a launch by its space, sampler, database, name or bars, before any market is built."""

from collections.abc import Sequence

from optimize.data.describe import SourceSummary
from optimize.data.resample import resampling_error
from optimize.database import check_reachable, open_engine
from optimize.errors import BadInputError, OtherStudyError, require
from optimize.results.orphans import has_tables
from optimize.results.queries import all_studies
from optimize.results.records import load_study
from optimize.results.study_names import PHASE_NAMES
from optimize.search.parse import Choices
from optimize.search.rules import budget_conflicts, check_space, sufficient_budget, unread_keys
from optimize.search.samplers import check_sampler
from optimize.search.space import SearchSpace, apply, grid, parse_space
from optimize.search.spec import LOOKBACK, MODEL_PHASE, TIMEFRAME, TIMEFRAME_PHASE
from optimize.study.launch.starting_points import check_starting_points, wide_space
from optimize.study.phases.run import timeframe_study
from optimize.study.spec import StudySpec


def check_study(spec: StudySpec) -> None:
    """Refuse a bad space, sampler or database before any market is built."""
    trains_here = spec.worker.kind == "local" or not (spec.nested and spec.nested_finalists)
    require(trains_here, "nested_finalists", spec.nested_finalists, "0 with worker=ray: finalists train here")
    space = parse_space(spec.space)
    # A space that phase 1 narrowed need not hold the configured timeframe and lookback.
    check_space(probe_spec(spec, space) if spec.phase.kind == "two" else spec, space)
    if spec.phase.kind == "two":  # checked before phase 1, as phase 2 may get all timeframes
        space = SearchSpace((*space.parameters, *parse_space(timeframe_study(spec).space).parameters))
    if spec.phase.kind != "timeframe_only":
        check_sampler(spec.sampler, space)
    check_reachable(spec.database)  # fail before the markets are built, not after
    check_starting_points(
        spec, space if spec.phase.kind == "single" else wide_space(spec, parse_space(spec.space))
    )
    _refuse_taken(spec)
    if (unread := unread_keys(spec, space)) and not _is_stored(spec):
        raise BadInputError(f"{'; '.join(unread)}: take it out of the space, or set what reads it")
    conflicts = [] if spec.phase.kind == "timeframe_only" else budget_conflicts(spec, space)
    if conflicts and not _is_stored(spec):  # a study of an older version may have them
        enough = sufficient_budget(spec, space)
        longer = "" if enough is None else f"raise agent.total_timesteps to {enough} or more, "
        raise BadInputError(
            f"{'; '.join(dict.fromkeys(conflicts))}: take such values out, {longer}or "
            f"leave the key out, as in {conflicts[0].partition(' ')[0]}=null"
        )


def _refuse_taken(spec: StudySpec) -> None:
    """Refuse the name of a study with other phases, and one that differs from a stored name only in case.

    The folders of names that differ in case may be the same.
    """
    try:
        engine = open_engine(spec.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return
    try:
        with engine.connect() as conn:
            names = all_studies(engine) if has_tables(conn) else []
    finally:
        engine.dispose()
    phases = [f"{spec.name}.{phase}" for phase in PHASE_NAMES if f"{spec.name}.{phase}" in names]
    single = spec.phase.kind == "single"
    stored = spec.name in names
    if (phases and not stored) if single else (stored and not phases):
        found = f"has the phases {' and '.join(phases)}" if phases else "is a study of one phase"
        raise BadInputError(
            f"phase={spec.phase.kind}: the stored study {spec.name} {found}: resume it with "
            f"phase={'two' if single else 'single'}, or choose another name"
        )
    known = {name.partition(".")[0] for name in names}
    near = sorted(name for name in known if name.lower() == spec.name.lower())
    if near and spec.name not in near:
        raise BadInputError(
            f"name={spec.name!r} differs from the study {near[0]!r} of this database by its case alone: "
            f"write name={near[0]} to go on with it, or choose another name"
        )


def _is_stored(spec: StudySpec, phases: Sequence[str] = (MODEL_PHASE,)) -> bool:
    """Return whether the database holds this study, or one of its phases."""
    try:
        engine = open_engine(spec.database.url, read_only=True)
    except BadInputError:  # there is no database yet
        return False
    try:
        with engine.connect() as conn:
            names = (spec.name, *(f"{spec.name}.{phase}" for phase in phases))
            return has_tables(conn) and any(load_study(conn, name) is not None for name in names)
    finally:
        engine.dispose()


def refuse_coarser_bars(spec: StudySpec, source: SourceSummary) -> None:
    """Refuse to resume a study on bars from which its timeframe cannot be made, before any other check."""
    if resampling_error(source.source_timeframe, source.timeframe) is None:
        return
    if _is_stored(spec, (MODEL_PHASE, TIMEFRAME_PHASE)):
        raise OtherStudyError(
            f"study {spec.name!r} has bars of {source.timeframe}, which cannot be made of {source.source} "
            f"with bars of {source.source_timeframe}: go on with its own data, or choose another name"
        )


def probe_spec(spec: StudySpec, space: SearchSpace) -> StudySpec:
    """Return the study at a timeframe and lookback of its space, which may lack the configured ones."""
    inside = [
        p for p in space.parameters if p.path in (TIMEFRAME, LOOKBACK) and isinstance(p.domain, Choices)
    ]
    return apply(spec, grid(SearchSpace(tuple(inside)))[0])
