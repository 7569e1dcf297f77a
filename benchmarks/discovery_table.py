"""The discovery benchmark as tables and a picture."""

from pathlib import Path
from typing import Any

from benchmarks.markdown import table

PICTURE = Path(__file__).resolve().parent / "results" / "discovery.svg"


def discovery(result: dict[str, Any]) -> str:
    """Return discoveries by edge and rule, the shrinkage of the winner, and the regret of searches."""
    rules = list(result["rules"][0]["discoveries"])
    rows = []
    for each in result["rules"]:
        found = [f"{each['discoveries'][rule]} of {each['markets']}" for rule in rules]
        scores = [f"{each[key]:+.2f}" for key in ("search", "fresh", "held_out")]
        rows.append([f"{each['edge']:g}", each["sessions"], *found, *scores])
    heads = ("edge", "sessions", *rules, "best score", "on fresh seeds", "held out")
    budgets = [f"{budget:.0%}" for budget in result["budgets"]]
    regrets = [[name, *(f"{value:.2f}" for value in found)] for name, found in result["regret"].items()]
    said = (
        f"{result['points']} points with {result['seeds']} seeds of {result['steps']:,} steps on each "
        f"market; recording took {result['cpu_s']:,.0f} CPU seconds."
    )
    search = "Mean regret (held-out Sharpe ratio) after a share of the CPU time of the whole grid:"
    return f"{said}\n\n{table(heads, rows)}\n\n{search}\n\n{table(('search', *budgets), regrets)}"


def draw(result: dict[str, Any], path: Path = PICTURE) -> None:
    """Draw the share of markets on which each rule makes a discovery, by edge."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    longest = max(each["sessions"] for each in result["rules"])
    shown = [each for each in result["rules"] if each["sessions"] == longest]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for rule in shown[0]["discoveries"]:
        shares = [each["discoveries"][rule] / each["markets"] for each in shown]
        axes.plot([each["edge"] for each in shown], shares, marker="o", label=rule)
    axes.set_xlabel("best achievable Sharpe ratio, net")
    axes.set_ylabel("share of markets with a discovery")
    axes.set_title(f"{longest} sessions, {shown[0]['markets']} markets of each edge")
    axes.set_ylim(-0.05, 1.05)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
