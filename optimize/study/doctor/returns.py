"""The doctor's look at the files of windows: returns that are gone, cut short, or back again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from optimize.results.records import FINISHED, EventRecord, events, log_event
from optimize.results.tables import RUNS, WINDOWS
from optimize.study.doctor.findings import FAIL, OK, WARN, Audit, Finding, listed
from optimize.study.place import holds_token

LOST = "returns_lost"  # the kind of an event
PARQUET = b"PAR1"  # at both ends of a file


def examine_returns(audit: Audit) -> Iterator[Finding]:
    """Find windows of ended trials whose returns are not where their row says, or are cut short."""
    with audit.engine.connect() as conn:
        rows = conn.execute(_windows_with_returns(audit.name)).all()
        ours = holds_token(conn, audit.name, audit.folder)
        lost = [
            part for event in events(conn, audit.name, LOST) for part in (event.detail or {}).get("lost", ())
        ]
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
        detail = {"lost": [[row.run_uuid, row.window, row.repeat, row.returns_path] for row in missing]}
        with audit.engine.begin() as conn:
            for row in missing:
                _set_returns(conn, row.run_uuid, row.window, row.repeat, None)
            log_event(conn, EventRecord(audit.name, LOST, message, detail))
        return f"recorded that the returns of {len(missing)} windows are lost (trials {trials})"

    cut = sum((audit.folder / row.returns_path).is_file() for row in missing)
    damaged = f", {cut} of them cut short" if cut else ""
    said = f"{audit.name}: the returns of {len(missing)} of {len(rows)} windows are gone{damaged}"
    remedy = "put the files back from a copy; repair=true records that they are lost, the scores stand"
    yield Finding("files", FAIL, f"{said} (trials {trials})", remedy, mend)


def _found_again(audit: Audit, lost: Sequence[Sequence[Any]]) -> Iterator[Finding]:
    """Find returns that were recorded as lost and are back in their place."""
    with audit.engine.connect() as conn:
        unset = select(WINDOWS.c.run_uuid, WINDOWS.c.window, WINDOWS.c.repeat).where(
            WINDOWS.c.returns_path.is_(None)
        )
        without = {tuple(row) for row in conn.execute(unset)} if lost else set()
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
                _set_returns(conn, run_uuid, window, repeat, path)
        return f"recorded that the returns of {len(back)} windows are there"

    said = f"{audit.name}: the returns of {len(back)} windows that were lost are there again"
    yield Finding("files", WARN, said, "repair=true records it", mend)


def _set_returns(conn: Connection, run_uuid: str, window: int, repeat: int, path: str | None) -> None:
    of_window = (WINDOWS.c.run_uuid == run_uuid, WINDOWS.c.window == window, WINDOWS.c.repeat == repeat)
    conn.execute(update(WINDOWS).where(*of_window).values(returns_path=path))


def is_whole_parquet(path: Path) -> bool:
    """Say whether a Parquet file begins and ends as one: one that was cut has no end."""
    try:
        with path.open("rb") as file:
            head = file.read(len(PARQUET))
            return head == PARQUET and file.seek(-len(PARQUET), 2) > 0 and file.read() == PARQUET
    except OSError:  # it is not there, or shorter than its beginning
        return False


def _windows_with_returns(study: str) -> Any:
    told = (RUNS.c.study_name == study, RUNS.c.state.in_(FINISHED), WINDOWS.c.returns_path.is_not(None))
    keys = (WINDOWS.c.run_uuid, WINDOWS.c.window, WINDOWS.c.repeat)
    columns = (*keys, WINDOWS.c.returns_path, RUNS.c.trial_number)
    return select(*columns).join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid).where(*told)
