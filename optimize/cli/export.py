"""`walkforge export`."""

import dataclasses
import json
import sys
from typing import Any

from optimize.bundles.card import TRUST
from optimize.bundles.export import Exported, export_best
from optimize.bundles.export_ensemble import export_ensemble
from optimize.bundles.holdout import HoldoutResult, measure_holdout
from optimize.database import Engine, open_engine
from optimize.errors import require
from optimize.evaluate.captions import better_baseline
from optimize.extensions import FOLDER as EXTENSIONS
from optimize.extensions import name_extensions
from optimize.report.format import format_score
from optimize.report.luck import lines_with_flags
from optimize.report.verdict import set_line
from optimize.results.creation import create_tables
from optimize.results.launches import NO_MEANING, is_debug, typed_words
from optimize.results.luck import load_luck
from optimize.results.queries import find_study
from optimize.results.records import load_baselines
from optimize.schemas.records import ExportConfig
from optimize.study.spec import MISSING_NAME, check_name

LUCK_KEYS = (
    "trial_number", "sharpe_low", "sharpe_high", "psr", "deflated_sharpe_ratio", "p_flat", "p_buy_and_hold",
    "n_tries",
)  # fmt: skip


def export(config: ExportConfig) -> None:
    """Export the best trials of a study as bundles; print the outcome of each and the next command."""
    check_name((config.name or MISSING_NAME).replace(".", "-"))
    require(config.format != "csv", "format", config.format, "table or json for export")
    url = config.database.url
    open_engine(url, read_only=True).dispose()  # a database that is not there is refused, not made
    engine = open_engine(url, busy_timeout_s=config.database.busy_timeout_s)
    try:
        study = find_study(engine, config.name)
        create_tables(engine)  # tables that a database of an older version lacks
        extensions = None if config.extensions is None else name_extensions(config.extensions)
        _print_progress(config.describe())
        place = (engine, config.output_dir, study)
        if config.ensemble is None:
            refit = (config.accept, config.refit)
            exported = export_best(*place, config.top_n, _print_progress, extensions, config, *refit)
        else:
            size, of = config.ensemble, config.ensemble_of
            exported = export_ensemble(*place, size, _print_progress, extensions, config, config.accept, of)
        opened = [_measured(engine, one) for one in exported] if config.holdout else []
        with engine.connect() as conn:
            better = better_baseline(load_baselines(conn, study), exported[0].score)
            debug = is_debug(typed_words(conn, study))
            luck = load_luck(conn, study)
            verdict = [] if luck is None else lines_with_flags(conn, luck)
        for line in verdict:
            _print_progress(line if line != verdict[0] else f"study {study}, {line}")
    finally:
        engine.dispose()
    warning = (
        ""
        if better is None
        else (
            f"no trial beats the baseline {better.name} ({better.timeframe}, score "
            f"{format_score(better.score)}): every exported agent scores lower"
        )
    )
    if debug:
        cut = f"the study was cut down by debug=tiny: {NO_MEANING}"
        warning = f"{warning}\n{cut}" if warning else cut
    if config.format == "json":
        plain = [_plain(one) for one in exported]
        for row, result in zip(plain, opened, strict=False):
            row["holdout_score"] = result.score
        print(json.dumps(plain, indent=2, default=str))
        print(warning, end="\n" if warning else "", file=sys.stderr)
    else:
        print("\n".join(_lines(exported, warning)))
        for one, result in zip(exported, opened, strict=False):
            earned = format_score(result.score) if result.score is not None else f"no score ({result.reason})"
            print(
                f"{one.title} on its holdout: score {earned}, buy_and_hold "
                f"{format_score(result.buy_and_hold)}, in its windows {format_score(one.score)}"
            )


def _measured(engine: Engine, one: Exported) -> HoldoutResult:
    """Open the holdout of a bundle, and print how often that has happened."""
    result = measure_holdout(engine, one.folder)
    _print_progress(result.line)
    return result


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # standard output holds the exported folders alone, for programs


def _plain(one: Exported) -> dict[str, Any]:
    """Return a bundle with the luck of its trial, or of the members of an ensemble, as plain values."""
    plain = dataclasses.asdict(dataclasses.replace(one, rows=()))
    del plain["rows"]
    return plain | {"luck": [{key: getattr(row, key) for key in LUCK_KEYS} for row in one.rows]}


def _lines(exported: list[Exported], warning: str) -> list[str]:
    """Return the lines on each bundle, with the luck of its trial or of the members of an ensemble."""
    width = max(len(one.folder.as_posix()) for one in exported)
    lines = list[str]()
    for one in exported:
        head = f"{one.rank:>2}  {one.title:<11} score {format_score(one.score):>6}  "
        lines.append(f"{head}{one.folder.as_posix():<{width}}  {one.outcome}")
        lines += [f"    luck of trial {row.trial_number}: {set_line(row)}" for row in one.rows]
    if warning:
        lines.append(warning)
    first = exported[0].folder.as_posix()
    trust = TRUST if (exported[0].folder / EXTENSIONS).is_dir() else ""
    return [*lines, "", "next:", f"  read {first}/CARD.md", f"  walkforge replay bundle={first}{trust}"]
