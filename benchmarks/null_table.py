"""The studies on noise as a table."""

from typing import Any

from benchmarks.markdown import table


def null_studies(result: dict[str, Any]) -> str:
    """Return the discoveries on noise as a table."""
    rows = [
        [words, f"{result[key]} of {result['studies']}"]
        for key, words in (
            ("exported", "a bundle is exported under the default gates"),
            ("found", "the verdict is FOUND"),
            ("exported_and_found", "both"),
            ("fresh_above_zero", "the lower bound of the best finalist is above 0"),
        )
    ]
    means = ", ".join(f"{step} {value:+.2f}" for step, value in result["means"].items())
    return f"{table(('false discovery', 'studies'), rows)}\n\nMean Sharpe ratios: {means}."
