"""The studies of real bars as a table."""

from typing import Any

from benchmarks.markdown import table


def real_markets(result: dict[str, Any]) -> str:
    """Return score, luck, selection and fresh score of each study as a table."""
    columns = ("score", "fresh", "lower_bound", "selection")
    rows = [
        [
            each["market"],
            each["settings"],
            *("-" if each[column] is None else f"{each[column]:+.2f}" for column in columns),
            *("-" if each[column] is None else f"{each[column]:.3f}" for column in ("p_flat", "p_hold")),
            "FOUND" if each["found"] else "LUCK",
            "yes" if each["exported"] else "no",
            f"{each['sessions']}",
            f"{each['cpu_s']:.0f}",
        ]
        for each in result["studies"]
    ]
    titles = (
        *("market", "settings", "best score", "best finalist", "its lower bound", "selection walk-forward"),
        *("p (flat)", "p (hold)", "verdict", "exported", "test sessions", "CPU s"),
    )
    return table(titles, rows)
