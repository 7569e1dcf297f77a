"""The linear probe on random walks as a table."""

from typing import Any

from benchmarks.markdown import table

SIGNIFICANT = 0.05  # a mean with a smaller p-value is not zero within its error


def noise_table(result: dict[str, Any]) -> str:
    """Return the mean gross Sharpe ratio of the probe by noise and inputs, with its distance from zero."""
    rows = [
        [
            each["noise"],
            each["inputs"],
            each["walks"],
            f"{each['mean']:+.3f} ± {each['error']:.3f}",
            f"{each['p_value']:.2f}",
            "yes" if each["p_value"] >= SIGNIFICANT else "**no**",
            f"{each['deviation']:.2f}",
            f"{each['flat']:.0%}" if "flat" in each else "",
        ]
        for each in result["cells"]
    ]
    heads = (
        "noise", "inputs", "walks", "mean gross Sharpe ratio", "p", "zero within error",
        "deviation between walks", "windows without a trade",
    )  # fmt: skip
    done = (
        f"{result['probes']} of the {result['asked']} probes that were asked for, on walks of "
        f"{result['bars']:,} bars, {result['cpu_s']:g} CPU seconds."
    )
    return f"{done}\n\n{table(heads, rows)}"
