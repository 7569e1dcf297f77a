"""`walkforge data`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimize.cli.failures import EXIT_BAD_INPUT
from optimize.cli.tables import Column, say, say_aside, share, show, show_json
from optimize.compose import MarketConfig
from optimize.data.cache import cache_key, cached_market
from optimize.data.dataset import DataSummary, bars_at, describe, load_bars
from optimize.data.describe import refuse_unread
from optimize.data.download import fetch
from optimize.data.quality.findings import Finding, counted, days, line, span
from optimize.data.quality.report import Coverage, Report, inspect
from optimize.data.spec import ALWAYS_REFUSED, DAY_NS
from optimize.data.table import table_of_bars, table_of_market, write_output
from optimize.extensions import name_extensions

NO_FINDING = "no finding: sorted, unique, complete, positive and plausible bars"
FINDING_COLUMNS = (
    Column("check", "check", right=False),
    Column("found", "found", right=False),
    Column("remedy", "what to do", right=False),
)


def data(config: MarketConfig) -> int:
    """Download, check and describe the bars and cache their market; 2 where a finding refuses them."""
    refuse_unread(config.data)
    name_extensions(config.extensions)
    fetch(config.data, say if config.format == "table" else say_aside)
    report = inspect(config.data, config.session)
    going_on = report.passed and not config.data.check
    told: dict[str, Any] = {
        "provider": config.data.provider,
        "passed": report.passed,
        "calendar": report.calendar,
        "coverage": [asdict(each) for each in report.coverage],
        "findings": [asdict(each) for each in report.findings],
    }
    if config.format == "table":
        _say_report(report, config.data.provider)
    elif config.format == "csv":
        show(told["findings"], [Column(name, name) for name in Finding.__slots__], "csv")
    if going_on:
        told |= _market(config)
    if config.format == "json":
        show_json(told)
    return 0 if report.passed else EXIT_BAD_INPUT


def _market(config: MarketConfig) -> dict[str, Any]:
    """Build the market, say what it holds unless a machine reads, and return that."""
    source = load_bars(config.data)
    summary = describe(source, config.session)
    cache = Path(config.cache_dir)
    market = cached_market(config.data, config.feature, config.session, cache)
    bars = bars_at(source, market.timeframe, config.session)
    warmup = bars.n_bars - market.n_bars
    folder = cache / cache_key(config.data, config.feature, config.session)
    if config.format == "table":
        inferred = " (inferred from the bars)" if config.session.calendar == "auto" else ""
        _say_block("bars", _summary_lines(summary, inferred))
        _say_block(
            "market",
            [
                f"bars      {market.n_bars:,} of {_made_of(market.timeframe, source.timeframe)} after "
                f"{counted(warmup, 'bar')} of warm-up",
                f"features  {len(market.feature_names)}: {', '.join(market.feature_names)}",
                f"cached    {folder}",
            ],
        )
    if config.output is not None:
        path = Path(config.output).expanduser()
        table = table_of_market(market) if config.features else table_of_bars(bars)
        write_output(path, table)
        if config.format == "table":
            say(f"output    {path}: {counted(len(table), 'row')}, {len(table.columns)} columns")
    built: dict[str, Any] = {"timeframe": market.timeframe, "bars": market.n_bars, "warmup_bars": warmup}
    built |= {"features": market.feature_names, "cached": str(folder)}
    return {"summary": asdict(summary), "market": built}


def _made_of(timeframe: str, source: str) -> str:
    """Return a timeframe, and how to have the source's own where that is finer."""
    kept = "" if timeframe == source else f" (data.timeframe={source} keeps the source's own)"
    return timeframe + kept


def _summary_lines(summary: DataSummary, inferred: str) -> list[str]:
    span = f"{summary.first} to {summary.last} (start of bar, UTC)"
    empty = f", {summary.empty_sessions:,} of them without a bar" if summary.empty_sessions else ""
    shares = zip(summary.symbols, summary.untradable_share, strict=True)
    return [
        f"bars      {summary.rows:,} of {summary.timeframe}, {span}",
        f"calendar  {summary.calendar}{inferred}, {counted(summary.sessions, 'session')}{empty}",
        *(f"untraded  {symbol}: {share(part)} of the bars" for symbol, part in shares if part),
        f"digest    {summary.fingerprint}",
    ]


def _say_report(report: Report, provider: str) -> None:
    """Print what was read and what was found: a table on a terminal, else a line a finding."""
    _say_block(f"data.provider={provider}", [_covered(each) for each in report.coverage])
    assumed = [f"{each.symbol}: {sentence}" for each in report.coverage for sentence in each.assumptions]
    if assumed:
        _say_block("assumed", assumed)
    if not report.findings:
        _say_block("checks", [NO_FINDING])
    elif sys.stdout.isatty():
        show(_rows(report.findings, several=len(report.coverage) > 1), FINDING_COLUMNS, "table", "checks")
    else:
        _say_block("checks", [line(each) for each in report.findings])
    if not report.passed:
        say(_refusal(report.findings))


def _refusal(findings: Sequence[Finding]) -> str:
    """Return how many findings refuse and what to type about those that may be judged otherwise."""
    refusing = [each.check for each in findings if each.severity == "refuse"]
    yours = dict.fromkeys(check for check in refusing if check not in ALWAYS_REFUSED)
    judge = ", or judge otherwise with " + " ".join(f"data.severity.{check}=warn" for check in yours)
    total = counted(len(findings), "finding")
    return f"refused: {len(refusing)} of {total}; each says what to do{judge if yours else ''}"


def _covered(each: Coverage) -> str:
    """Return what one symbol's bars cover as a line."""
    return (
        f"{each.symbol}: {each.rows:,} bars of {each.timeframe}, {each.first} to {each.last}: "
        f"{days(each.days * DAY_NS)}, {_age(each.age_days)}; from {each.source}"
    )


def _age(age_days: float) -> str:
    """Return when the last bar ended, or when it will."""
    if age_days < 0:
        return f"ends in {days(-age_days * DAY_NS)}"
    return f"ended {days(age_days * DAY_NS)} ago"


def _rows(findings: Sequence[Finding], *, several: bool) -> list[dict[str, str]]:
    """Return the findings as rows for 80 columns."""
    return [
        {
            "check": f"{each.check}\n{each.severity}" + (f"\n{each.symbol}" if several else ""),
            "found": f"{each.found}\n{span(each).removeprefix('; ')}",
            "remedy": each.remedy,
        }
        for each in findings
    ]


def _say_block(title: str, lines: Sequence[str]) -> None:
    say(title)
    for each in lines:
        say(f"  {each}")
