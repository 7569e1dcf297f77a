"""The battery and its sweep as tables and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

PICTURE = Path(__file__).resolve().parent / "results" / "battery.svg"


def sweep_table(result: dict[str, Any]) -> str:
    """Return the truth of each set of settings: in all, beside the first, and by kind of edge."""
    sets = result["sets"]
    rows = [
        [
            each["name"],
            f"`{each['words']}`" if each["words"] else "",
            each["walks"],
            with_error(each["expected"]),
            with_error(each["lead"]),
            "" if each["share"] is None else f"{each['share']:.0%}",
            with_error(each["realised"]),
            f"{each['cpu_s']:.1f}",
        ]
        for each in sets
    ]
    heads = (
        "set",
        "settings",
        "walks",
        "truth",
        "lead over the first",
        "of the oracle",
        "on fresh bars",
        "CPU s",
    )
    kinds = list(dict.fromkeys(kind for each in sets for kind in each["by_kind"]))
    by_kind = [[each["name"], *(with_error(each["by_kind"].get(kind)) for kind in kinds)] for each in sets]
    done = f"{result['walks']} of the {result['asked']} walk-forwards that were asked for."
    return f"{done}\n\n{table(heads, rows)}\n\n{table(('set', *kinds), by_kind)}"


def with_error(found: Sequence[float | None] | None) -> str:
    """Return a mean with its standard error, where there is one."""
    if found is None or found[0] is None:
        return ""
    mean, error = found
    return f"{mean:+.2f}" if error is None else f"{mean:+.2f} ± {error:.2f}"


def battery_table(result: dict[str, Any]) -> str:
    """Return the share of the oracle of every contestant by strength and by kind, and its Sharpe ratios."""
    names = result["contestants"]
    sizes = "; ".join(
        f"studies of {trials} trials, {finalists} finalists on {seeds} fresh seeds"
        for trials, finalists, seeds in result["studies"]
    )
    done = (
        f"{result['runs']} of the {result['asked']} results that were asked for, {result['cpu_hours']:g} CPU "
        f"hours; the truth is measured on {result['fresh_bars']:,} fresh bars{'; ' * bool(sizes)}{sizes}."
    )
    means = [
        [name, *(by_strength(own.get(name)) for own in result["by_strength"].values()), cpu_of(result, name)]
        for name in names
    ]
    heads = (f"oracle at {strength}" for strength in result["by_strength"])
    first = table(("mean share of the oracle, all kinds", *heads, "CPU s"), means)
    kinds = [
        [each["kind"], each["strength"] or "", *(share_of(each["contestants"].get(name)) for name in names)]
        for each in result["places"]
    ]
    second = table(("share of the oracle", "strength", *names), kinds)
    truths = [
        [
            each["kind"],
            each["strength"] or "",
            f"{next(iter(each['contestants'].values()))['oracle']:.1f}",
            *(truth_in(each["contestants"].get(name)) for name in names),
        ]
        for each in result["places"]
    ]
    third = table(("net Sharpe ratio", "strength", "oracle", *names), truths)
    picture = f"![Share of the oracle by kind of edge](results/{PICTURE.name})"
    return "\n\n".join((done, first, second, third, *[picture] * bool(result["by_strength"])))


def by_strength(found: dict[str, Any] | None) -> str:
    """Return a share with its error and the number of runs."""
    if found is None or found["share"] is None:
        return ""
    error = "" if found["share_error"] is None else f" ± {found['share_error']:.0%}"
    return f"{found['share']:.0%}{error} ({found['runs']})"


def share_of(found: dict[str, Any] | None) -> str:
    """Return a share with its error."""
    return by_strength(found).partition(" (")[0]


def truth_in(found: dict[str, Any] | None) -> str:
    """Return the expected Sharpe ratio and the one of the fresh bars."""
    return "" if found is None else f"{with_error(found['expected'])} ({found['realised'][0]:+.2f})"


def cpu_of(result: dict[str, Any], name: str) -> str:
    """Return the mean CPU seconds of a contestant over the places, weighted by its runs."""
    found = [each["contestants"][name] for each in result["places"] if name in each["contestants"]]
    return f"{sum(each['cpu_s'] * each['runs'] for each in found) / sum(each['runs'] for each in found):.1f}"


def draw_battery(result: dict[str, Any], path: Path = PICTURE) -> None:
    """Draw the share of the oracle of every contestant by kind, a panel for each strength."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    strengths = list(result["by_strength"])
    if not strengths:
        return
    figure, panels = plt.subplots(
        1,
        len(strengths),
        figsize=(3 + 3 * len(strengths), 5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, strength in zip(panels[0], strengths, strict=True):
        shown = [each for each in result["places"] if str(each["strength"]) == strength]
        for number, name in enumerate(result["contestants"]):
            own = [
                (max(each["contestants"][name]["share"], -1), each["kind"])
                for each in shown
                if name in each["contestants"]
            ]
            panel.plot(*zip(*own, strict=True), marker="osD^vPX*"[number % 8], linestyle="", label=name)
        panel.axvline(0, color="0.6", linewidth=0.8)
        panel.axvline(1, color="0.6", linewidth=0.8)
        panel.set_title(f"oracle at {strength}")
        panel.set_xlabel("share of the oracle (-1 and less at -1)")
        panel.grid(axis="y", color="0.9")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
