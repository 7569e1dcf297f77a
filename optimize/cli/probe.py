"""`walkforge probe`."""

from collections.abc import Mapping, Sequence

from optimize.agents.threads import limit_threads
from optimize.cli.checked_market import checked_market
from optimize.data.sources.read_once import reading_once
from optimize.evaluate.probe.carriers import Carrier, find_carriers
from optimize.evaluate.windows import train_start
from optimize.report.probe_picture import write_probe_picture
from optimize.report.probe_table import (
    CARRIER_COLUMNS,
    PROBE_COLUMNS,
    carrier_table,
    probe_table,
    probe_verdict,
)
from optimize.report.tables import say, show
from optimize.schemas.studies import ProbeConfig, to_spec
from optimize.search.spec import TimeframePhaseSpec
from optimize.study.context import cache_dir
from optimize.study.spec import StudySpec
from optimize.walkforward.inner_probe import Inputs, choices_of_inputs, probe_inputs, with_inputs
from optimize.walkforward.markets import build_windowed_market, fit_to_window

PROBE_PICTURE = "probe.png"


def show_probe(config: ProbeConfig) -> int:
    """Show a linear probe on each choice of inputs, on bars before the first test window; 1 without any."""
    limit_threads(1)
    spec = to_spec(config)
    with reading_once():
        spec, windowed = checked_market(spec)
        first = windowed.windows[0]
        timeframes = config.timeframes or _multiples(spec.data.target)
        inputs = choices_of_inputs(timeframes, config.lookbacks, spec.feature, config.groups)
        say(
            f"{len(inputs)} choices of inputs, on the bars from {train_start(first, windowed.market)} to "
            f"{first.dates.train_end} (exclusive), before the first test window"
        )
        rows = probe_table(list(probe_inputs(spec, inputs, cache_dir(spec))))
        known = {row["timeframe"] for row in rows if row["sharpe"] is not None}
        carriers = _carriers(spec, [each for each in timeframes if each in known], max(config.lookbacks))
    show(rows, PROBE_COLUMNS, "table", f"{spec.name}: linear probe, net of costs")
    shown, passed = carrier_table(carriers)
    tests = sum(map(len, carriers.values()))
    if shown:
        show(shown, CARRIER_COLUMNS, "table", "columns and lags that lean on the return of a decision")
    say(probe_verdict(rows, passed, tests))
    say(
        "low, high: 95 % interval, with the autocorrelation of sessions; detectable: Sharpe ratio found in "
        "80 % of cases; costs take: gross less net; p (Holm): one-sided in the first table, two-sided in the "
        "second, corrected for its number of tests"
    )
    if known:
        path = spec.folder / PROBE_PICTURE
        write_probe_picture(path, spec.name, rows)
        say(f"picture: {path}")
    return 0 if known else 1


def _multiples(timeframe: str) -> list[str]:
    """Return the timeframe and the multiples of it that the timeframe phase would search."""
    grid = TimeframePhaseSpec(timeframes=[], lookbacks=[1], n_trials=24)
    return list(grid.starting_from(timeframe).timeframes)


def _carriers(spec: StudySpec, timeframes: Sequence[str], lookback: int) -> Mapping[str, list[Carrier]]:
    """Return the tests of every column and lag at each timeframe, on the first train span."""
    found = {}
    for timeframe in timeframes:
        own = with_inputs(spec, Inputs(timeframe, lookback))
        windowed = build_windowed_market(own, cache_dir(spec))
        first = windowed.windows[0]
        _, market = fit_to_window(own, windowed, first)
        span = (first.train_first, first.train_last)
        found[timeframe] = find_carriers(market, span, lookback, at_open=own.env.fill == "open")
    return found
