"""The doctor's look at the files of windows: returns that are gone, cut short, or back again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optimize.doctor.findings import FAIL, OK, WARN, Audit, Finding, listed
from optimize.results.ended_runs import set_returns, windows_with_returns, windows_without_returns
from optimize.results.event_log import events, log_event
from optimize.results.events import ReturnsLost
from optimize.study.shared_folder import holds_token

PARQUET = b"PAR1"  # at both ends of a file


def examine_returns(audit: Audit) -> Iterator[Finding]:
    """Find windows of ended trials whose file of returns is missing or cut short."""
    with audit.engine.connect() as conn:
        rows = windows_with_returns(conn, audit.name)
        ours = holds_token(conn, audit.name, audit.folder)
        lost = [part for logged in events(conn, audit.name, ReturnsLost) for part in logged.event.lost]
    yield from _found_again(audit, lost)
    missing = [row for row in rows if not is_whole_parquet(audit.folder / row.returns_path)]
    said = f"{audit.name}: the returns of {len(rows)} windows are there"
    if not missing:
        yield Finding("files", OK, said)
        return
    trials = listed(sorted({row.trial_number for row in missing}))
    if not ours:
        said = f"{audit.name}: the returns of {len(missing)} of {len(rows)} windows are not in {audit.folder}"
        remedy = "that is not the folder of this study: name it with output_dir=..."
        yield Finding("files", FAIL, said, remedy)
        return

    def mend() -> str:
        message = f"the returns of {len(missing)} windows are lost (trials {trials})"
        lost = tuple((row.run_uuid, row.window, row.repeat, row.returns_path) for row in missing)
        with audit.engine.begin() as conn:
            for row in missing:
                set_returns(conn, row.run_uuid, row.window, row.repeat, None)
            log_event(conn, audit.name, message, ReturnsLost(lost))
        return f"recorded that the returns of {len(missing)} windows are lost (trials {trials})"

    cut = sum((audit.folder / row.returns_path).is_file() for row in missing)
    damaged = f", {cut} of them cut short" if cut else ""
    said = f"{audit.name}: the returns of {len(missing)} of {len(rows)} windows are gone{damaged}"
    remedy = "put the files back from a copy; repair=true records that they are lost, the scores stand"
    yield Finding("files", FAIL, f"{said} (trials {trials})", remedy, mend)


def _found_again(audit: Audit, lost: Sequence[Sequence[Any]]) -> Iterator[Finding]:
    """Find returns that were recorded as lost and are back in their place."""
    with audit.engine.connect() as conn:
        without = windows_without_returns(conn) if lost else set()
    back = {
        tuple(part[:3]): part[3]
        for part in lost
        if tuple(part[:3]) in without and is_whole_parquet(audit.folder / part[3])
    }
    if not back:
        return

    def mend() -> str:
        with audit.engine.begin() as conn:
            for (run_uuid, window, repeat), path in back.items():
                set_returns(conn, run_uuid, window, repeat, path)
        return f"recorded that the returns of {len(back)} windows are there"

    said = f"{audit.name}: the returns of {len(back)} windows that were lost are there again"
    yield Finding("files", WARN, said, "repair=true records it", mend)


def is_whole_parquet(path: Path) -> bool:
    """Return whether a Parquet file has its first and last mark; a cut file lacks the last."""
    try:
        with path.open("rb") as file:
            head = file.read(len(PARQUET))
            return head == PARQUET and file.seek(-len(PARQUET), 2) > 0 and file.read() == PARQUET
    except OSError:  # it is not there, or shorter than its beginning
        return False
