"""Examine the machine, the database and its studies; repair where that is safe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from optimize.database import (
    DatabaseSpec,
    DBAPIError,
    Engine,
    database_path,
    is_sqlite,
    local_folder,
    open_engine,
)
from optimize.database.address import url_text, without_password
from optimize.database.health import DatabaseHealth, look
from optimize.database.sqlite import find_place
from optimize.doctor.credentials import examine_credentials
from optimize.doctor.findings import FAIL, OK, WARN, Audit, Finding, guarded_findings
from optimize.doctor.machine import examine_machine
from optimize.doctor.study import examine_strangers, examine_study
from optimize.errors import BadInputError, WalkforgeError, message_of
from optimize.report.format import gigabytes
from optimize.results.creation import create_tables
from optimize.results.orphans import (
    count_orphans,
    missing_tables,
    move_orphans,
    rename_back,
    renamed_studies,
    stored_studies,
)
from optimize.results.queries import studies_of
from optimize.results.views import create_views, stale_views

SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
COPY = "stop every worker, keep a copy of the database, and restore what is damaged from an older one"
BUSY_SERVER = 0.8  # share of the connections that a server allows


@dataclass(frozen=True)
class Treatment:
    """A finding and the result of its repair."""

    finding: Finding
    done: str | None = None  # None: nothing was mended
    failed: str | None = None  # why mending failed

    @property
    def level(self) -> str:
        """Return the finding as it stands after the repair."""
        return OK if self.done is not None else self.finding.level


def treat(database: DatabaseSpec, output_dir: str, name: str | None, repair: bool) -> Iterator[Treatment]:
    """Yield each finding, mended where that was asked for and is possible; name: this study alone."""
    for finding in examine(database, Path(output_dir), name, repair):
        if not (repair and finding.mend is not None):
            yield Treatment(finding)
            continue
        try:
            yield Treatment(finding, done=finding.mend())
        except (WalkforgeError, DBAPIError, OSError) as error:  # one that cannot be mended hides no other
            yield Treatment(finding, failed=message_of(error))


def examine(database: DatabaseSpec, output_dir: Path, name: str | None, writable: bool) -> Iterator[Finding]:
    """Yield the findings, those of the machine first."""
    try:
        databases = local_folder(database.url)
    except BadInputError as error:
        yield Finding("database", FAIL, str(error), "mend database.url")
        return
    yield from examine_machine({"databases": databases, "studies": output_dir.resolve()})
    yield from examine_credentials()
    engine = None
    try:
        if is_sqlite(database.url) and not find_place(database.url).exists():
            yield Finding("database", OK, f"none yet at {database_path(database.url)}: a study makes it")
            return
        engine = open_engine(database.url, read_only=not writable, busy_timeout_s=database.busy_timeout_s)
        health = look(engine)
    except (BadInputError, DBAPIError) as error:
        yield Finding("database", FAIL, message_of(error), "mend this before any study")
        if engine is not None:
            engine.dispose()
        return
    try:
        yield from _database(database, health)
        yield from guarded_findings(
            "studies", "the studies", _studies(engine, database, output_dir, name), COPY
        )
    finally:
        engine.dispose()


def _database(database: DatabaseSpec, health: DatabaseHealth) -> Iterator[Finding]:
    where = f"{health.version}, {gigabytes(health.size_bytes)}, {without_password(database.url)}"
    if health.problems:
        recover = (
            "sqlite3 FILE .recover"
            if is_sqlite(database.url)
            else "from a backup, as PostgreSQL's manual says"
        )
        remedy = f"stop every worker, keep a copy, and recover it: {recover}"
        yield Finding("database", FAIL, f"{where}: damaged: {'; '.join(health.problems)}", remedy)
    else:
        yield Finding("database", OK, f"{where}: {health.checked}")
    if health.journal not in (None, "wal"):
        remedy = "a study switches it to wal when it opens the file"
        yield Finding("journal", WARN, f"journal_mode is {health.journal}", remedy)
    elif health.journal is not None:
        yield Finding("journal", OK, "journal_mode is wal")
    if health.connections is not None:
        used, allowed = health.connections
        level = WARN if used > BUSY_SERVER * allowed else OK
        remedy = "raise the server's max_connections, or use fewer workers" if level == WARN else ""
        yield Finding("connections", level, f"{used} of {allowed} are open", remedy)
        yield _clock(health.skew_s)


def _clock(skew_s: float) -> Finding:
    said = (
        f"the server's clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    )
    remedy = "set both by NTP: leases go by the server's clock, dates of runs by each machine's"
    if abs(skew_s) > SKEW_FAIL_S:
        return Finding("clock", FAIL, said, remedy)
    return Finding("clock", WARN, said, remedy) if abs(skew_s) > SKEW_WARN_S else Finding("clock", OK, said)


def _studies(engine: Engine, database: DatabaseSpec, output_dir: Path, name: str | None) -> Iterator[Finding]:
    with engine.connect() as conn:
        missing = missing_tables(conn)
    if missing is None:
        if name:
            raise BadInputError(f"name={name!r}: this database holds no study yet ({url_text(engine.url)})")
        yield Finding("studies", OK, "none yet in this database")
        return
    if missing:
        said = f"tables are missing: {', '.join(sorted(missing))}"
        yield Finding("tables", FAIL, said, f"{COPY}; the next study makes them anew, and empty")
        return
    yield from guarded_findings("views", "the views", _views(engine), COPY)
    yield from guarded_findings("names", "the names of studies", _names(engine), COPY)
    with engine.connect() as conn:
        renamed = renamed_studies(conn)
    if renamed and name:
        return
    names = studies_of(engine, name) if name else []
    yield from guarded_findings("rows", "our rows", _rows(engine, bool(renamed)), COPY)
    with engine.connect() as conn:
        every = list(stored_studies(conn))
    for study in names or every:
        yield from guarded_findings(
            "study", study, examine_study(Audit(study, engine, database, output_dir)), COPY
        )
    if not name:
        yield from examine_strangers(output_dir, every)


def _views(engine: Engine) -> Iterator[Finding]:
    """Find views that are missing, or of another version."""
    with engine.connect() as conn:
        stale = stale_views(conn)
    if not stale:
        yield Finding("views", OK, "the views are those of this version")
        return

    def mend() -> str:
        create_tables(engine)  # columns that the views name
        create_views(engine)
        return f"made {', '.join(stale)}"

    said = f"views are missing, or of another version: {', '.join(stale)}"
    yield Finding("views", WARN, said, "the next study makes them, or repair=true", mend)


def _names(engine: Engine) -> Iterator[Finding]:
    """Find studies that Optuna's tools renamed: their records and folders bear another name."""
    with engine.connect() as conn:
        renamed = renamed_studies(conn)
    for record, present in renamed.items():

        def mend(record: str = record, present: str = present) -> str:
            with engine.begin() as conn:
                rename_back(conn, record, present)
            return f"renamed {present} to {record}"

        said = f"study {record} was renamed to {present} by Optuna's tools, and its records were not"
        yield Finding("names", WARN, said, f"repair=true gives it the name {record} again", mend)


def _rows(engine: Engine, renamed: bool) -> Iterator[Finding]:
    """Find rows that belong to nothing; they are moved, never deleted."""
    with engine.connect() as conn:
        orphans = count_orphans(conn)
    if not orphans:
        yield Finding("rows", OK, "every row belongs to a trial and a study")
        return
    said = f"rows that belong to nothing: {_counted(orphans)}"
    if renamed:
        yield Finding("rows", WARN, said, "they may be those of a renamed study: give it its name first")
        return

    def mend() -> str:
        create_tables(engine)
        with engine.begin() as conn:
            return f"moved to wf_trash: {_counted(move_orphans(conn))}"

    remedy = "their trial or study was deleted by hand: repair=true moves them to the table wf_trash"
    yield Finding("rows", WARN, said, remedy, mend)


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {table}" for table, count in rows.items())
