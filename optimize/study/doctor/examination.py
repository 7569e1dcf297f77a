"""Examine the machine, the database and its studies, and mend what can be mended safely."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from optimize.database import DatabaseSpec, database_path, is_sqlite, local_folder, open_engine
from optimize.database.address import without_password
from optimize.database.health import DatabaseHealth, look
from optimize.database.sqlite import find_place
from optimize.errors import BadInputError, WalkforgeError
from optimize.results.orphans import count_orphans, drop_orphans, has_tables, stored_studies
from optimize.results.queries import studies_of
from optimize.study.doctor.audit import Audit, examine_strangers, examine_study
from optimize.study.doctor.credentials import examine_credentials
from optimize.study.doctor.findings import FAIL, OK, WARN, Finding, gigabytes
from optimize.study.doctor.machine import examine_machine

SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
BUSY_SERVER = 0.8  # share of the connections that a server allows


@dataclass(frozen=True)
class Treatment:
    """A finding, and what was done about it."""

    finding: Finding
    done: str | None = None  # None: nothing was mended
    failed: str | None = None  # why mending failed

    @property
    def level(self) -> str:
        """Return what is left of the finding."""
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
            yield Treatment(finding, failed=" ".join(str(error).split()))


def examine(database: DatabaseSpec, output_dir: Path, name: str | None, writable: bool) -> Iterator[Finding]:
    """Yield what is right and wrong, the machine first."""
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
        yield Finding("database", FAIL, " ".join(str(error).split()), "mend this before any study")
        if engine is not None:
            engine.dispose()
        return
    try:
        yield from _database(database, health)
        yield from _studies(engine, database, output_dir, name)
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
        if not name and not has_tables(conn):
            yield Finding("studies", OK, "none yet in this database")
            return
    names = studies_of(engine, name) if name else []
    with engine.connect() as conn:
        every = list(stored_studies(conn))
        orphans = count_orphans(conn)
    if orphans:
        said = ", ".join(f"{count} of {table}" for table, count in orphans.items())
        remedy = "their trial or study was deleted by hand: repair=true drops them"
        yield Finding("rows", WARN, f"rows that belong to nothing: {said}", remedy, lambda: _drop(engine))
    else:
        yield Finding("rows", OK, "every row belongs to a trial and a study")
    for study in names or every:
        yield from examine_study(Audit(study, engine, database, output_dir))
    if not name:
        yield from examine_strangers(output_dir, every)


def _drop(engine: Engine) -> str:
    with engine.begin() as conn:
        dropped = drop_orphans(conn)
    return "dropped " + ", ".join(f"{count} of {table}" for table, count in dropped.items())
