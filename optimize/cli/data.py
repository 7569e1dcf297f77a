"""`walkforge data`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optimize.cli.error_lines import EXIT_BAD_INPUT
from optimize.data.cache import cache_key, cached_market
from optimize.data.describe import refuse_unread
from optimize.data.download.run import download_bars
from optimize.data.features.registry import read_feature_keys
from optimize.data.frames import frame_of_bars, frame_of_market, write_frame
from optimize.data.market import BarsSummary, bars_at, load_bars, summarise_bars
from optimize.data.quality.findings import QualityFinding, duration_text, finding_line, pluralise, span_text
from optimize.data.quality.report import Coverage, QualityReport, inspect_bars
from optimize.data.sources.read_once import reading_once
from optimize.data.spec import ALWAYS_REFUSED
from optimize.data.timeframes import DAY_NS
from optimize.extensions import name_extensions
from optimize.report.format import share
from optimize.report.tables import Column, say, say_aside, show, show_json
from optimize.schemas.studies import MarketConfig

NO_FINDING = "no finding: sorted, unique, complete, positive and plausible bars"
FINDING_COLUMNS = (
    Column("check", "check", right=False),
    Column("found", "found", right=False),
    Column("remedy", "what to do", right=False),
)


@reading_once()
def data(config: MarketConfig) -> int:
    """Download, check and describe the bars and cache their market; 2 where a finding refuses them."""
    refuse_unread(config.data)
    name_extensions(config.extensions)
    config = replace(config, feature=read_feature_keys(config.feature))
    download_bars(config.data, say if config.format == "table" else say_aside)
    report = inspect_bars(config.data, config.session)
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
        show(told["findings"], [Column(name, name) for name in QualityFinding.__slots__], "csv")
    if going_on:
        told |= _market(config)
    if config.format == "json":
        show_json(told)
    return 0 if report.passed else EXIT_BAD_INPUT


def _market(config: MarketConfig) -> dict[str, Any]:
    """Build the market, describe it unless the output is for a program, and return the description."""
    source = load_bars(config.data)
    summary = summarise_bars(source, config.session)
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
                f"{pluralise(warmup, 'bar')} of warm-up",
                f"features  {len(market.feature_names)}: {', '.join(market.feature_names)}",
                f"cached    {folder}",
            ],
        )
    if config.output is not None:
        path = Path(config.output).expanduser()
        table = frame_of_market(market) if config.features else frame_of_bars(bars)
        write_frame(path, table)
        if config.format == "table":
            say(f"output    {path}: {pluralise(len(table), 'row')}, {len(table.columns)} columns")
    built: dict[str, Any] = {"timeframe": market.timeframe, "bars": market.n_bars, "warmup_bars": warmup}
    built |= {"features": market.feature_names, "cached": str(folder)}
    return {"summary": asdict(summary), "market": built}


def _made_of(timeframe: str, source: str) -> str:
    """Return a timeframe, and how to have the source's own where that is finer."""
    kept = "" if timeframe == source else f" (data.timeframe={source} keeps the source's own)"
    return timeframe + kept


def _summary_lines(summary: BarsSummary, inferred: str) -> list[str]:
    span = f"{summary.first} to {summary.last} (start of bar, UTC)"
    empty = f", {summary.empty_sessions:,} of them without a bar" if summary.empty_sessions else ""
    shares = zip(summary.symbols, summary.untradable_share, strict=True)
    return [
        f"bars      {summary.rows:,} of {summary.timeframe}, {span}",
        f"calendar  {summary.calendar}{inferred}, {pluralise(summary.sessions, 'session')}{empty}",
        *(f"untraded  {symbol}: {share(part)} of the bars" for symbol, part in shares if part),
        f"digest    {summary.fingerprint}",
    ]


def _say_report(report: QualityReport, provider: str) -> None:
    """Print the coverage and the findings: a table on a terminal, else a line a finding."""
    _say_block(f"data.provider={provider}", [_covered(each) for each in report.coverage])
    assumed = [f"{each.symbol}: {sentence}" for each in report.coverage for sentence in each.assumptions]
    if assumed:
        _say_block("assumed", assumed)
    if not report.findings:
        _say_block("checks", [NO_FINDING])
    elif sys.stdout.isatty():
        show(_rows(report.findings, several=len(report.coverage) > 1), FINDING_COLUMNS, "table", "checks")
    else:
        _say_block("checks", [finding_line(each) for each in report.findings])
    if not report.passed:
        say(_refusal(report.findings))


def _refusal(findings: Sequence[QualityFinding]) -> str:
    """Return the number of refusing findings, and the keys that lower those which may be lowered."""
    refusing = [each.check for each in findings if each.severity == "refuse"]
    yours = dict.fromkeys(check for check in refusing if check not in ALWAYS_REFUSED)
    judge = ", or judge otherwise with " + " ".join(f"data.severity.{check}=warn" for check in yours)
    total = pluralise(len(findings), "finding")
    return f"refused: {len(refusing)} of {total}; each says what to do{judge if yours else ''}"


def _covered(each: Coverage) -> str:
    """Return the coverage of one symbol's bars as a line."""
    return (
        f"{each.symbol}: {each.rows:,} bars of {each.timeframe}, {each.first} to {each.last}: "
        f"{duration_text(each.days * DAY_NS)}, {_age(each.age_days)}; from {each.source}"
    )


def _age(age_days: float) -> str:
    """Return when the last bar ended, or when it will."""
    if age_days < 0:
        return f"ends in {duration_text(-age_days * DAY_NS)}"
    return f"ended {duration_text(age_days * DAY_NS)} ago"


def _rows(findings: Sequence[QualityFinding], *, several: bool) -> list[dict[str, str]]:
    """Return the findings as rows for 80 columns."""
    return [
        {
            "check": f"{each.check}\n{each.severity}" + (f"\n{each.symbol}" if several else ""),
            "found": f"{each.found}\n{span_text(each).removeprefix('; ')}",
            "remedy": each.remedy,
        }
        for each in findings
    ]


def _say_block(title: str, lines: Sequence[str]) -> None:
    say(title)
    for each in lines:
        say(f"  {each}")
