"""Leaderboard rows of finalists, which an export takes where `walkforge finalists` has ranked some."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optimize.database import Engine
from optimize.errors import WalkforgeError
from optimize.results.finalists import Finalist, FinalistRun, load_finalist_run, ranked_finalists, set_of_run
from optimize.results.queries import LeaderboardRow, best_models, window_sharpes

MOST_SETS = 1000  # of the leaderboard, among which the finalists are looked for
FROM_RUN = (
    "total_return", "max_drawdown", "max_drawdown_bars", "cost", "trades", "turnover", "exposure",
    "sharpe_zero_cost", "best_session", "sharpe_in_sample", "walk_forward_efficiency",
)  # fmt: skip


def finalist_leaderboard(engine: Engine, study: str) -> list[LeaderboardRow]:
    """Return the finalists that no gate blocks, in their order, each by the run of its median fresh seed.

    Luck and parameters are those of the search's own run; it is empty where no finalists were ranked. Raises
    WalkforgeError where each of them is blocked or has no fresh score: their search scores are no substitute.
    """
    with engine.connect() as conn:
        finalists = {each.parameter_set: each for each in ranked_finalists(conn, study)}
    if not finalists:
        return []
    rows = []
    for row in best_models(engine, study, MOST_SETS):
        with engine.connect() as conn:
            of_set = None if row.run_uuid is None else set_of_run(conn, row.run_uuid)
            finalist = None if of_set is None else finalists.get(of_set)
            run = None if finalist is None else load_finalist_run(conn, finalist.run_uuid or "")
            sharpes = [] if run is None else window_sharpes(conn, run.run_uuid)
        if finalist is not None and run is not None and finalist.gate is None:
            rows.append(_row(row, finalist, run, sharpes))
    if not rows:
        raise WalkforgeError(
            f"no finalist of {study} can be exported: each of {len(finalists)} is blocked by a gate or has "
            "no feasible fresh score (`walkforge finalists` shows them). Nothing is exported: search longer "
            "or on other bars, or retrain more parameter sets with a larger top_n"
        )
    rows.sort(key=lambda row: row.rank)
    return [replace(row, rank=rank) for rank, row in enumerate(rows, start=1)]


def _row(
    row: LeaderboardRow, finalist: Finalist, run: FinalistRun, sharpes: Sequence[float]
) -> LeaderboardRow:
    figures: dict[str, Any] = {name: (run.metrics or {}).get(name) for name in FROM_RUN}
    return replace(
        row,
        rank=finalist.rank,
        score=finalist.fresh_score if finalist.fresh_score is not None else row.score,
        runs=finalist.seeds,
        pruned_runs=finalist.infeasible,
        flags=finalist.flags,
        window_sharpe_min=min(sharpes, default=None),
        window_sharpe_median=statistics.median(sharpes) if sharpes else None,
        window_sharpe_max=max(sharpes, default=None),
        score_min=finalist.score_min if finalist.score_min is not None else row.score_min,
        score_max=finalist.score_max if finalist.score_max is not None else row.score_max,
        seeds="single seed" if finalist.seeds == 1 else f"{finalist.seeds} seeds",
        standard_error=run.standard_error,
        random_quantile=finalist.random_quantile,
        run_uuid=run.run_uuid,
        **figures,
    )
