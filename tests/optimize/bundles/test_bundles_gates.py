"""Gates of an export: each one blocks by its name, and an export without a passing trial fails."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from optimize.bundles import gated_rows as module
from optimize.bundles.export import export_best
from optimize.bundles.gated_rows import gated_rows
from optimize.bundles.gates import NO_GATES, GateSpec
from optimize.bundles.manifest import read_manifest, write_manifest
from optimize.bundles.replay import replay_bundle
from optimize.errors import BadInputError, WalkforgeError
from optimize.evaluate.score import ScoreSpec
from optimize.results.queries import best_models
from optimize.results.tables import RUNS
from tests.optimize.study.bundles import Exports
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import opened, play

OPEN: dict[str, None] = {"min_selection_score": None, "max_luck_p": None}


def said_of(exports: Exports, gates: GateSpec, top_n: int = 3) -> tuple[list[int], list[str]]:
    lines: list[str] = []
    rows = gated_rows(exports.context.engine, "tiny", top_n, gates, lines.append)
    return [each.row.trial_number for each in rows], lines


def test_without_gates_the_ranked_trials_pass(exports: Exports) -> None:
    ranked = [row.trial_number for row in best_models(exports.context.engine, "tiny", 3)]
    assert said_of(exports, NO_GATES) == (ranked, [])
    assert said_of(exports, NO_GATES, top_n=1) == (ranked[:1], [])


def test_a_refused_trial_is_named_with_its_gate_and_the_next_best_takes_its_place(exports: Exports) -> None:
    best, second, third = best_models(exports.context.engine, "tiny", 3)
    passed, lines = said_of(exports, GateSpec(**OPEN, min_score=second.score))
    assert passed == [best.trial_number, second.trial_number]
    assert lines[0].startswith(
        f"trial {third.trial_number} is refused by min_score={second.score:g}: its score"
    )
    assert lines[1] == "top_n=3 were asked for; 2 distinct trials pass the gates"


@pytest.mark.parametrize(
    ("gates", "name"),
    [
        (GateSpec(**OPEN, min_score=1e6), "min_score=1e+06"),
        (GateSpec(**OPEN, min_trades=10**6), "min_trades=1e+06"),
        (GateSpec(**OPEN, min_windows_positive=3), "min_windows_positive=3"),
        (GateSpec(**OPEN, max_drawdown=0.0), "max_drawdown=0"),
        (GateSpec(**OPEN, min_deflated_sharpe=0.95), "min_deflated_sharpe=0.95"),
        (GateSpec(min_selection_score=None, max_luck_p=0.05), "max_luck_p=0.05"),
        (GateSpec(**OPEN, beat="best_baseline"), "beat=best_baseline"),
        (GateSpec(**OPEN, min_finished_trials=100), "min_finished_trials=100"),
        (GateSpec(min_selection_score=1e6), "min_selection_score=1e+06"),
    ],
)
def test_each_gate_fails_loudly_with_its_name_and_a_remedy(
    exports: Exports, gates: GateSpec, name: str
) -> None:
    with pytest.raises(WalkforgeError) as refused:
        said_of(exports, gates)
    assert refused.value.exit_code == 1
    assert name in str(refused.value)
    assert f"{name.partition('=')[0]}=null or gate=none" in str(refused.value)


def test_gates_that_every_trial_keeps_refuse_none(exports: Exports) -> None:
    wide = GateSpec(
        min_selection_score=-1e6, min_finished_trials=3, min_score=-1e6, min_trades=0, min_windows_positive=0,
        max_drawdown=1.0, max_luck_p=None,
    )  # fmt: skip
    assert said_of(exports, wide) == said_of(exports, NO_GATES)


def test_luck_decides_where_it_was_measured(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = GateSpec(min_selection_score=None, min_deflated_sharpe=0.9, max_luck_p=0.05)
    rows = best_models(exports.context.engine, "tiny", 3)
    lucky = [dataclasses.replace(row, deflated_sharpe_ratio=0.95, p_flat=0.01) for row in rows]
    monkeypatch.setattr(module, "best_models", lambda engine, study, limit: lucky[:limit])
    assert said_of(exports, gates) == ([row.trial_number for row in rows], [])
    lucky[:] = [dataclasses.replace(row, p_flat=0.2) for row in lucky]
    with pytest.raises(WalkforgeError, match=r"refused by max_luck_p=0\.05"):
        said_of(exports, gates)


def test_a_bundle_states_the_gates_that_it_passed(exports: Exports, tmp_path: Path) -> None:
    shutil.copytree(exports.output_dir, tmp_path / "studies")
    shutil.rmtree(tmp_path / "studies" / "tiny" / "exports")
    place = (exports.context.engine, tmp_path / "studies", "tiny", 1)
    (one,) = export_best(*place, gates=GateSpec(**OPEN, min_trades=1, max_drawdown=1.0, min_score=-99.5))
    stored = json.loads((one.folder / "metrics.json").read_text(encoding="utf-8"))
    (row,) = one.rows
    assert stored["gates"] == {
        "min_score": {"limit": -99.5, "figure": one.score},
        "min_trades": {"limit": 1, "figure": row.trades},
        "max_drawdown": {"limit": 1.0, "figure": -(row.max_drawdown_bars or 0.0)},
    }
    card = (one.folder / "CARD.md").read_text(encoding="utf-8")
    assert f"| `min_trades=1` | trades | {row.trades:.0f} |" in card
    assert "| `max_drawdown=1` | largest loss from a peak | " in card
    assert replay_bundle(one.folder).bitwise
    forged = card.replace("min_trades=1", "min_trades=9")
    (one.folder / "CARD.md").write_text(forged, encoding="utf-8")
    write_manifest(one.folder, read_manifest(one.folder))
    with pytest.raises(BadInputError, match=r"CARD\.md does not describe"):
        replay_bundle(one.folder)


def test_a_bundle_without_gates_says_so(exports: Exports) -> None:
    folder = exports.exported[0].folder
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["gates"] == {}
    assert "The export had no gate" in (folder / "CARD.md").read_text(encoding="utf-8")


def test_a_refused_export_writes_nothing(exports: Exports, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = Path(exports.output_dir) / "tiny"
    before = sorted(folder.rglob("*"))
    with pytest.raises(WalkforgeError, match="no trial of tiny passes the gates: 3 refused by min_score=99"):
        export_best(
            exports.context.engine,
            exports.output_dir,
            "tiny",
            2,
            lines.append,
            gates=GateSpec(**OPEN, min_score=99),
        )
    assert sorted(folder.rglob("*")) == before
    assert lines[0].startswith("trial ")


@pytest.mark.parametrize(
    "wrong", [{"beat": "everything"}, {"max_drawdown": 50.0}, {"min_trades": -1}, {"min_score": float("nan")}]
)
def test_a_bad_gate_is_refused_by_its_key(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        GateSpec(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("column", "gates", "name"),
    [
        ("max_drawdown", GateSpec(**OPEN, max_drawdown=1.0), "max_drawdown"),
        ("trades", GateSpec(**OPEN, min_trades=0), "min_trades"),
        ("buy_and_hold", GateSpec(**OPEN, beat="buy_and_hold"), "beat"),
    ],
)
def test_a_stored_figure_that_is_no_number_is_refused_on_each_database(
    small: Small, column: str, gates: GateSpec, name: str
) -> None:
    context = opened(small(n_trials=1, score=ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0)))
    play(context)
    with context.engine.begin() as conn:
        metrics = conn.execute(select(RUNS.c.metrics)).scalar_one() | {"max_drawdown_bars": None}
        conn.execute(update(RUNS).values(metrics=metrics))
        # SQLite stores NaN as NULL; a server stores it, and compares it as the largest number.
        conn.execute(text(f"UPDATE wf_runs SET {column} = :nan"), {"nan": float("nan")})
    with pytest.raises(WalkforgeError, match=f"refused by {name}"):
        gated_rows(context.engine, "small", 1, gates, list[str]().append)


def test_figures_of_luck_and_score_that_are_no_number_are_refused(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = best_models(exports.context.engine, "tiny", 1)
    broken = dataclasses.replace(
        row, score=float("nan"), deflated_sharpe_ratio=float("nan"), p_flat=float("nan")
    )
    monkeypatch.setattr(module, "best_models", lambda engine, study, limit: [broken])
    for gates in (
        GateSpec(**OPEN, min_score=-1e6),
        GateSpec(**OPEN, min_deflated_sharpe=0.0),
        GateSpec(min_selection_score=None, max_luck_p=1.0),
        GateSpec(**OPEN, beat="buy_and_hold"),
    ):
        with pytest.raises(WalkforgeError, match="no trial of tiny passes the gates"):
            said_of(exports, gates, 1)
