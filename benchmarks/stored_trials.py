"""Many finished trials written into Optuna's tables at once: one by one through its storage takes hours."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, MetaData, insert, select

AT = datetime(2024, 1, 2)


def insert_trials(conn: Connection, study_id: int, trials: Sequence[FrozenTrial], first: int = 0) -> None:
    """Write the rows of finished trials with finite values, numbered from `first`."""
    schema = MetaData()
    schema.reflect(conn, only=lambda name, _: name.startswith("trial"))
    table = schema.tables["trials"]
    numbers = range(first, first + len(trials))
    conn.execute(
        insert(table),
        [
            {"study_id": study_id, "number": number, "state": trial.state.name}
            | {"datetime_start": AT, "datetime_complete": AT}
            for number, trial in zip(numbers, trials, strict=True)
        ],
    )
    stored = select(table.c.trial_id).where(table.c.study_id == study_id, table.c.number >= first)
    ids = conn.execute(stored.order_by(table.c.number)).scalars().all()
    rows: dict[str, list[dict[str, Any]]] = {
        "trial_params": [],
        "trial_intermediate_values": [],
        "trial_user_attributes": [],
        "trial_values": [],
    }
    for trial_id, trial in zip(ids, trials, strict=True):
        of = {"trial_id": trial_id}
        for name, distribution in trial.distributions.items():
            value = distribution.to_internal_repr(trial.params[name])
            text = distribution_to_json(distribution)
            rows["trial_params"].append(
                of | {"param_name": name, "param_value": value, "distribution_json": text}
            )
        for step, value in trial.intermediate_values.items():
            finite = {"intermediate_value": value, "intermediate_value_type": "FINITE"}
            rows["trial_intermediate_values"].append(of | {"step": step} | finite)
        for key, attribute in trial.user_attrs.items():
            rows["trial_user_attributes"].append(of | {"key": key, "value_json": json.dumps(attribute)})
        if trial.values:
            (value,) = trial.values
            rows["trial_values"].append(of | {"objective": 0, "value": value, "value_type": "FINITE"})
    for name, of_table in rows.items():
        if of_table:
            conn.execute(insert(schema.tables[name]), of_table)
