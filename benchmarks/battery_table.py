"""The battery and its sweep as tables and a picture."""

from collections.abc import Sequence
from typing import Any

from benchmarks.markdown import table


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
