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
        scores = [_number(each[key], each["errors"][key]) for key in ("search", "fresh", "held_out")]
        rows.append([f"{each['edge']:g}", each["sessions"], *found, *scores])
    heads = ("edge", "sessions", *rules, "best score", "on a fresh seed", "held out")
    said = (
        f"{sum(each['markets'] for each in result['rules'])} markets, each with {result['points']} points, "
        f"{result['seeds']} seeds, {result['windows']} windows and trainings of {result['steps']:,} steps; "
        f"recording took {result['cpu_s'] / 3600:.2f} CPU hours."
    )
    return f"{said}\n\n{table(heads, rows)}\n\n{searches(result)}"


def searches(result: dict[str, Any]) -> str:
    """Return regret and held-out Sharpe ratio of each search by CPU time, and the lead of the default."""
    budgets, rows = [f"{budget:g}" for budget in result["budgets"]], result["searches"]
    regrets = [[each["search"], *(_number(value) for value in each["regret"])] for each in rows]
    held = [[each["search"], *(_number(value) for value in each["held_out"])] for each in rows]
    leads = [
        [
            each["search"],
            *(_number(lead, error) for lead, error in zip(each["lead"], each["lead_error"], strict=True)),
        ]
        for each in rows
        if any(each["lead"])  # that of the default over itself is 0
    ]
    of = "the point that is ranked first, by CPU time in units of one run of every point"
    markets = f"on the {result['markets_searched']} markets with an edge"
    parts = (
        (f"Regret {markets}: the score of the best point less that of {of}.", regrets),
        ("Lead of the default: the regret of a search less that of the default, with its error.", leads),
        (f"Held-out Sharpe ratio of {of}.", held),
    )
    return "\n\n".join(f"{words}\n\n{table(('search', *budgets), each)}" for words, each in parts)


def _number(value: float | None, error: float | None = None) -> str:
    """Return a number with its error; a dash where a search had no point yet on some market."""
    return "-" if value is None else f"{value:+.2f}" if error is None else f"{value:+.2f} ± {error:.2f}"


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
    fewest, most = (bound(each["markets"] for each in shown) for bound in (min, max))
    count = f"{most} market" if fewest == most == 1 else f"{most} markets"
    axes.set_title(
        f"{longest} sessions, {count if fewest == most else f'{fewest} or {most} markets'} of each edge"
    )
    axes.set_ylim(-0.05, 1.05)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
