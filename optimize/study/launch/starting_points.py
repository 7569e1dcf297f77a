"""The parameter sets that a study tries first: `search.enqueue`, and the best of `search.start_from`.

They are fixed and stored by the first launch, then queued under the study lock. Each queued trial has the
number of its set, so that a launch that was killed between two of them queues none twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envs.fields import keys_of
from envs.plain import flat_keys
from optimize.data.describe import SourceSummary
from optimize.database import Connection, open_engine, study_lock
from optimize.errors import BadInputError, require
from optimize.results.event_log import last_event, log_event
from optimize.results.events import SourceDescribed, StartingPointsChosen
from optimize.results.queries import best_models, find_study
from optimize.results.records import load_study
from optimize.results.runs import load_run
from optimize.results.states import SetSource
from optimize.results.study_views import STARTING_POINT_OF
from optimize.search.parse import Scalar, stored_value
from optimize.search.proposals import outside_space
from optimize.search.space import SearchSpace, apply, expand, parse_space
from optimize.search.spec import LOOKBACK, MODEL_PHASE, TIMEFRAME
from optimize.search.starting_points import complete_set, inactive, read_sets, typed_values
from optimize.study.context import StudyContext, flat
from optimize.study.spec import StudySpec

STARTING_POINT = "starting_point"  # user attribute: number of the set
Point = dict[str, Scalar]
Given = tuple[SetSource, Point]
_Echo = Callable[[str], None]


def check_starting_points(spec: StudySpec, space: SearchSpace) -> None:
    """Refuse sets that the space does not hold, and a study to start from that is not there."""
    search = spec.search
    if not search.enqueue and search.start_from is None:
        return
    if spec.phase.kind == "timeframe_only":
        given = "enqueue" if search.enqueue else "start_from"
        raise BadInputError(
            f"search.{given}: phase=timeframe_only tries every timeframe and lookback alike and takes no "
            "other sets: leave it out, or set phase=two"
        )
    for point in read_sets(search.enqueue, space, keys_of(StudySpec)):
        _check_configuration(spec, space, complete_set(space, point, [spec.seed]))
    many = len(search.enqueue)
    require(many <= spec.n_trials, "n_trials", spec.n_trials, f"at least the {many} sets of search.enqueue")
    if search.start_from is not None:
        base = spec.name.removesuffix(f".{MODEL_PHASE}")
        other = f"the name of another study than {base}, whose trials are kept on a resume anyway"
        require(search.start_from != base, "search.start_from", search.start_from, other)
        engine = open_engine(spec.database.url, read_only=True)
        try:
            find_study(engine, search.start_from)
        except BadInputError as error:
            raise BadInputError(str(error).replace("name=", "search.start_from=", 1)) from None
        finally:
            engine.dispose()


def queue_starting_points(context: StudyContext, source: SourceSummary | None, echo: _Echo) -> None:
    """Queue the sets that the study has not queued yet; the first launch chooses and stores them."""
    search = context.spec.search
    if not search.enqueue and search.start_from is None:
        return
    with context.engine.connect() as conn:
        stored = last_event(conn, [context.spec.name], [StartingPointsChosen])
    if stored is None:
        given = _choose(context, source, echo)
        sources, points = [kind for kind, _ in given], [point for _, point in given]
        event = StartingPointsChosen(tuple(map(json.dumps, points)), search.start_from, tuple(sources))
        with context.engine.begin() as conn:
            log_event(conn, context.spec.name, f"{len(points)} parameter sets are tried first", event)
    else:
        points = [json.loads(point) for point in stored.event.points]
        sources = [SetSource(each) for each in stored.event.sources]
    with study_lock(context.spec.database.url, context.spec.name):
        trials = context.study.get_trials(deepcopy=False)
        queued = {trial.user_attrs.get(STARTING_POINT) for trial in trials}
        for index, (point, kind) in enumerate(zip(points, sources, strict=True)):
            if index not in queued:
                attributes = {STARTING_POINT: index, STARTING_POINT_OF: kind.value}
                context.study.enqueue_trial(point, user_attrs=attributes)


def _choose(context: StudyContext, source: SourceSummary | None, echo: _Echo) -> list[Given]:
    """Return the sets of the study in the order in which they are tried; name those that are left out."""
    spec, space = context.spec, context.space
    given = _fitting(
        spec, space, read_sets(spec.search.enqueue, _wide(spec, space), keys_of(StudySpec)), echo
    )
    taken: list[Point] = []
    if spec.search.start_from is not None:
        taken = _fitting(spec, space, _best_sets(context, source), echo)
        room = min(spec.search.top_n, spec.n_trials - len(given))
        taken = [each for each in taken if each not in given][:room]
        if not taken and room:
            raise BadInputError(
                f"search.start_from={spec.search.start_from!r}: none of its best parameter sets fits the "
                "space of this study: leave it out, or search the keys that the two share"
            )
        echo(f"{spec.name}: the {len(taken)} best parameter sets of {spec.search.start_from} are tried first")
    both = [(SetSource.ENQUEUE, each) for each in given] + [(SetSource.START_FROM, each) for each in taken]
    return [(kind, complete_set(space, each, [spec.seed, index])) for index, (kind, each) in enumerate(both)]


def _fitting(spec: StudySpec, space: SearchSpace, points: Sequence[Point], echo: _Echo) -> list[Point]:
    """Return the sets that the space holds; print why the others are left out."""
    found = []
    for point in points:
        problem = outside_space(space, point) or inactive(space, point)
        if problem is None:
            try:
                _check_configuration(spec, space, complete_set(space, point, [spec.seed]))
            except BadInputError as error:
                problem = str(error)
        if problem is None:
            found.append(point)
        else:
            words = ", ".join(f"{path}={value}" for path, value in point.items())
            echo(f"{spec.name}: the parameter set {words} is left out: {problem}")
    return found


def _wide(spec: StudySpec, space: SearchSpace) -> SearchSpace:
    """Return the space in which typed sets are read: in a model phase, before phase 1 narrowed it."""
    if not spec.name.endswith(f".{MODEL_PHASE}"):
        return space
    return wide_space(spec, space)


def wide_space(spec: StudySpec, space: SearchSpace) -> SearchSpace:
    """Return a space with all timeframes and lookbacks of phase 1."""
    grid = spec.phase.timeframe
    phase = parse_space({TIMEFRAME: list(grid.timeframes), LOOKBACK: list(grid.lookbacks)})
    kept = (each for each in space.parameters if each.path not in (TIMEFRAME, LOOKBACK))
    return SearchSpace((*phase.parameters, *kept))


def _check_configuration(spec: StudySpec, space: SearchSpace, point: Point) -> None:
    """Refuse a set whose values are allowed one by one, but not together."""
    apply(spec, expand(space, typed_values(space, point)))


def _best_sets(context: StudyContext, source: SourceSummary | None) -> list[Point]:
    """Return the best parameter sets of the earlier study, best first."""
    spec = context.spec
    name = find_study(context.engine, spec.search.start_from or "")
    with context.engine.connect() as conn:
        record = load_study(conn, name)
        if record is None:
            raise BadInputError(f"search.start_from={name!r} was not run by walkforge: choose another study")
        _refuse_other_instrument(conn, name, source)
        best = [row.run_uuid for row in best_models(context.engine, name, spec.search.top_n)]
        runs = [load_run(conn, uuid) for uuid in best if uuid is not None]
    found = [run.parameters for run in runs if run is not None]
    if not found:
        raise BadInputError(
            f"search.start_from={spec.search.start_from!r} has no trial with a score: choose another study"
        )
    fixed = _fixed_before(context.space, flat_keys(StudySpec, record.spec))
    return [
        _active(context.space, fixed, {path: stored_value(value) for path, value in each.items()})
        for each in found
    ]


def _active(space: SearchSpace, fixed: Point, searched: Point) -> Point:
    """Return the searched values with those fixed ones that a trial of this space reads."""
    both = fixed | searched
    if outside_space(space, both) is not None:  # it is named, and left out
        return both
    read = complete_set(space, both, [0])
    return {path: value for path, value in both.items() if path in read or path in searched}


def _fixed_before(space: SearchSpace, plain: Mapping[str, Any]) -> Point:
    """Return the values that keys of this space had in the earlier study where it did not search them."""
    values = {path: value for path, value in flat(plain) if value is not None}
    configured = {
        each.path: stored_value(values[each.path]) for each in space.parameters if each.path in values
    }
    return {path: value for path, value in configured.items() if outside_space(space, {path: value}) is None}


def _refuse_other_instrument(conn: Connection, name: str, source: SourceSummary | None) -> None:
    stored = last_event(conn, [name], [SourceDescribed])
    if stored is None or source is None or set(stored.event.symbols) == set(source.symbols):
        return
    raise BadInputError(
        f"search.start_from={name!r} is a study of {', '.join(stored.event.symbols)}, and this one is of "
        f"{', '.join(source.symbols)}: choose a study of the same instrument"
    )
