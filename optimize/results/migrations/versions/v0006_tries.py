"""Table of the tries, filled with the runs of earlier versions that evaluated a window."""

import json
from pathlib import Path
from typing import Any

from alembic import op
from sqlalchemy import Column, Connection, Integer, String, Text, inspect, text

from optimize.results.instrument_names import instruments_of

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Of the runs of a trial the last one counts: it took over the windows of those before.
_RUNS = """
SELECT r.run_uuid, r.study_name, r.trial_number, r.spec_json, r.started_at,
  MIN(w.test_start) AS first, MAX(w.test_end) AS last
FROM wf_runs r JOIN wf_windows w ON w.run_uuid = r.run_uuid
WHERE NOT EXISTS (
  SELECT 1 FROM wf_runs later JOIN wf_windows v ON v.run_uuid = later.run_uuid
  WHERE later.study_name = r.study_name AND later.trial_number = r.trial_number
    AND later.attempt > r.attempt)
GROUP BY r.run_uuid, r.study_name, r.trial_number, r.spec_json, r.started_at
"""
_INSERT = """
INSERT INTO wf_tries (run_uuid, kind, study_name, trial_number, symbols_json, "first", "end", tried_at)
VALUES (:run_uuid, 'trial', :study_name, :trial_number, :symbols, :first, :last, :tried_at)
ON CONFLICT DO NOTHING
"""
AT_ONCE = 500


def upgrade() -> None:
    """Create the table and store the tries that the database knows."""
    op.create_table(
        "wf_tries",
        Column("run_uuid", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("study_name", Text, nullable=False),
        Column("trial_number", Integer),
        Column("symbols_json", Text, nullable=False),
        Column("first", String, nullable=False),
        Column("end", String, nullable=False),
        Column("tried_at", String, nullable=False),
        if_not_exists=True,
    )
    conn = op.get_bind()
    if not {"wf_runs", "wf_windows", "wf_events"} <= set(inspect(conn).get_table_names()):
        return
    read = _symbols_read(conn)
    rows = [_row(dict(row), read) for row in conn.execute(text(_RUNS)).mappings()]
    for first in range(0, len(rows), AT_ONCE):
        conn.execute(text(_INSERT), rows[first : first + AT_ONCE])


def _row(run: dict[str, Any], read: dict[str, list[str]]) -> dict[str, Any]:
    data = (json.loads(run.pop("spec_json") or "{}") or {}).get("data") or {}
    named = data.get("symbols") or read.get(run["study_name"]) or []
    symbols = instruments_of(data, named) or [Path(str(data.get("path"))).stem]
    return {**run, "symbols": json.dumps(symbols), "tried_at": run.pop("started_at")}


def _symbols_read(conn: Connection) -> dict[str, list[str]]:
    """Return the symbols of each study's bars, as its last launch found them."""
    rows = conn.execute(
        text("SELECT study_name, detail_json FROM wf_events WHERE kind = 'source' ORDER BY event_id")
    )
    found = {name: (json.loads(detail or "{}") or {}).get("symbols") for name, detail in rows}
    return {name: symbols for name, symbols in found.items() if symbols}
