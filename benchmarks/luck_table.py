"""The benchmark of luck as tables."""

from typing import Any

from benchmarks.markdown import table

HEADS = {
    "size": {"flat": "found against flat", "buy_and_hold": "against buy-and-hold"},
    "power": {
        "named": "named Sharpe ratio",
        "flat": "found against flat",
        "buy_and_hold": "against buy-and-hold",
    },
    "selection": {
        "board": "selection walk-forward",
        "with_pruned": "some trials pruned",
        "survivors": "survivors alone",
        "best": "best score",
    },
    "nested": {"board": "nested walk-forward", "best": "best score"},
    "training": {"board": "nested walk-forward", "best": "best score"},
}
TITLES = {
    "size": "Size, families without skill",
    "power": "Power, families with one trial of the size that the power line names",
    "selection": "Selection walk-forward, studies with drawn returns",
    "nested": "Nested walk-forward, studies with drawn returns",
    "training": "Nested walk-forward, studies with training",
}
SHARES = ("flat", "buy_and_hold")


def luck(result: dict[str, Any]) -> str:
    """Return a table of each part: means with their standard errors."""
    shown = []
    for name, heads in HEADS.items():
        if name not in result:
            continue
        rows = []
        for case, means in result[name].items():
            cells = [_cell(key, means) for key in heads]
            rows.append([case, means["repeats"], *cells])
        shown.append(f"{TITLES[name]}:\n\n{table(('case', 'repeats', *heads.values()), rows)}")
    return "\n\n".join(shown)


def _cell(key: str, means: dict[str, Any]) -> str:
    mean, error = means[key]["mean"], means[key]["error"]
    met = means["reached"].get(key)
    verdict = "" if met is None else (" (met)" if met else " (**missed**)")
    return f"{mean:.1%} +- {error:.1%}{verdict}" if key in SHARES else f"{mean:+.2f} +- {error:.2f}{verdict}"
