"""`walkforge data`."""

from pathlib import Path

from optimize.cli.tables import say, share
from optimize.compose import MarketConfig
from optimize.data.cache import cache_key, cached_market
from optimize.data.dataset import DataSummary, describe, load_bars
from optimize.data.features import warmup_bars


def data(config: MarketConfig) -> None:
    """Load and check the bars; describe them and cache the market, or print the checks only."""
    summary = describe(load_bars(config.data), config.session)
    found = findings(summary)
    report = found or ["no finding: sorted, unique, complete and positive prices"]
    if config.check:
        _say_block("checks", report)
        return
    inferred = " (inferred from the bars)" if config.session.calendar == "auto" else ""
    span = f"{summary.first} to {summary.last} (start of bar, UTC)"
    _say_block(
        f"{', '.join(summary.symbols)} from data.provider={config.data.provider}",
        [
            f"bars      {summary.rows} of {summary.timeframe}, {span}",
            f"calendar  {summary.calendar}{inferred}, {summary.sessions} sessions",
            f"digest    {summary.fingerprint}",
        ],
    )
    _say_block("checks", report)
    cache = Path(config.cache_dir)
    market = cached_market(config.data, config.feature, config.session, cache)
    warmup = warmup_bars(config.feature.indicators)
    _say_block(
        "market",
        [
            f"bars      {market.n_bars} of {market.timeframe} after {warmup} bars of warm-up",
            f"features  {len(market.feature_names)}: {', '.join(market.feature_names)}",
            f"cached    {cache / cache_key(config.data, config.feature, config.session)}",
        ],
    )


def findings(summary: DataSummary) -> list[str]:
    """Return what the checks found, one line each; what makes bars unusable was refused before."""
    found = []
    if summary.gaps:
        longest = f"the longest {summary.longest_gap_hours:g} h"
        found.append(
            f"gaps: {summary.gaps} in open market time, {longest}, {summary.missing_bars} bars missing"
        )
    if summary.empty_sessions:
        found.append(f"sessions: {summary.empty_sessions} of {summary.sessions} have no bar")
    shares = zip(summary.symbols, summary.untradable_share, summary.zero_volume_share, strict=True)
    for symbol, untradable, silent in shares:
        if untradable:
            found.append(f"{symbol}: {share(untradable)} of the bars did not trade")
        if silent:
            found.append(f"{symbol}: {share(silent)} of the traded bars have no volume")
    return found


def _say_block(title: str, lines: list[str]) -> None:
    say(title)
    for line in lines:
        say(f"  {line}")
