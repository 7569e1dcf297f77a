"""The market of a verb that runs without a study: bars checked and described, a kept holdout left out."""

from optimize.data.describe import source_line, summarise_source
from optimize.data.features import reads_volume
from optimize.data.market import refuse_leaking_features
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.report.tables import say
from optimize.study.context import cache_dir
from optimize.study.holdout import with_kept_holdout
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket, build_windowed_market


def checked_market(spec: StudySpec) -> tuple[StudySpec, WindowedMarket]:
    """Return the spec with a kept holdout and its market; print the source and findings of the bars.

    Bars that the quality checks refuse and features that read the future raise BadInputError.
    """
    report = inspect_bars(spec.data, spec.session)
    if report.coverage:
        say(source_line(summarise_source(report, spec.data)))
    enforce_report(report, say, reads_volume=reads_volume(spec.feature.indicators))
    windowed = build_windowed_market(spec, cache_dir(spec))
    held = with_kept_holdout(spec, windowed, say, keep=False)
    if held != spec:
        spec, windowed = held, build_windowed_market(held, cache_dir(held))
    refuse_leaking_features(spec.data, spec.feature, spec.session)
    return spec, windowed
