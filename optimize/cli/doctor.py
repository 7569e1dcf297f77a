"""`walkforge doctor`."""

from rich.console import Console
from rich.markup import escape

from optimize.doctor.examination import Treatment, treat
from optimize.doctor.findings import FAIL, OK, WARN
from optimize.report.tables import make_console, show_json
from optimize.schemas.records import DoctorConfig

STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def doctor(config: DoctorConfig) -> int:
    """Examine machine, database and studies, and repair on request; 1 where something fails."""
    treatments, console = [], make_console()
    for treatment in treat(config.database, config.output_dir, config.name or None, config.repair):
        treatments.append(treatment)
        if config.format == "table":
            _say(console, treatment)
    failed = sum(treatment.level == FAIL for treatment in treatments)
    if config.format == "json":
        show_json({"findings": [_plain(treatment) for treatment in treatments], "failed": failed})
    return 1 if failed else 0


def _say(console: Console, treatment: Treatment) -> None:
    """Print a finding as one line, and its repair as another."""
    finding = treatment.finding
    rest = f": {finding.remedy}" if finding.remedy and treatment.done is None else ""
    style, level = STYLES[finding.level], f"{finding.level:<4}"
    line = f"[{style}]{level}[/{style}]  {finding.check:<11} {escape(finding.said + rest)}"
    console.print(line, soft_wrap=True)
    if treatment.done is not None:
        console.print(f"      mended: {escape(treatment.done)}", soft_wrap=True)
    if treatment.failed is not None:
        console.print(f"      not mended: {escape(treatment.failed)}", soft_wrap=True)


def _plain(treatment: Treatment) -> dict[str, str | None]:
    finding = treatment.finding
    return {
        "check": finding.check,
        "level": finding.level,
        "said": finding.said,
        "remedy": finding.remedy or None,
        "mended": treatment.done,
        "not_mended": treatment.failed,
    }
