"""Pages of a recorded study: their numbers are those of the leaderboard, and hostile text stays text."""

import dataclasses
import json
import re
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path

import pytest

from optimize.report.format import format_score
from optimize.report.html.load import trial_content
from optimize.report.html.load_study import study_content
from optimize.report.html.page import figure_html, table_html, write_page
from optimize.report.html.study import SearchedKey, StudyContent, study_page
from optimize.report.html.trial import FeatureEffect, TrialContent, trial_page
from optimize.results.finalists import Finalist, FinalistHoldout, StressRecord
from optimize.results.queries import best_models
from optimize.results.runs import run_of_trial
from optimize.study.context import StudyContext

HOSTILE = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1">&"\''
FIGURE = re.compile(r'<script type="application/json">(.*?)</script>', re.S)


def content_of_study(context: StudyContext) -> StudyContent:
    keys = [SearchedKey("agent.learning_rate", 0.7, 0.2, 0.5)]
    return study_content(
        context.engine, context.spec.database.url, context.spec.name, context.spec.folder, keys
    )


def content_of_trial(context: StudyContext, number: int) -> TrialContent:
    with context.engine.connect() as conn:
        run = run_of_trial(conn, context.spec.name, number)
        assert run is not None
        return trial_content(conn, context.spec.database.url, context.spec.folder, run, "")


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page.split("</script>", 1)[1], re.S)
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_the_page_of_a_study_has_the_rows_of_the_leaderboard(gallery: StudyContext) -> None:
    page = study_page(content_of_study(gallery))
    board = best_models(gallery.engine, gallery.spec.name)
    shown = [row[:3] for row in cells(page) if row[:1] and row[0].isdecimal() and len(row) > 10]
    assert shown == [[str(row.rank), str(row.trial_number), format_score(row.score)] for row in board]
    assert len(page.encode()) < 6_000_000
    assert page.count("plotly.js v") == 1  # the library is there once


def test_the_page_of_a_trial_has_the_numbers_of_its_rows(gallery: StudyContext) -> None:
    content = content_of_trial(gallery, 0)
    page = trial_page(content)
    (best,) = best_models(gallery.engine, gallery.spec.name, 1)
    assert f'<div class="value">{format_score(best.score)}</div>' in page
    rows = [row for row in cells(page) if len(row) == 15 and row[1].isdecimal()]
    assert [row[4] for row in rows] == [format_score(window.sharpe) for window in content.windows]
    figures = [json.loads(text) for text in FIGURE.findall(page)]
    net = next(trace for figure in figures for trace in figure["data"] if trace.get("name") == "net of costs")
    assert net["y"][-1] == round(float(content.curves[0].equity[-1]), 4)


@pytest.mark.parametrize("pattern", [r'src="http', r'href="http', r"@import", r"fetch\("])
def test_a_page_asks_no_network(gallery: StudyContext, pattern: str) -> None:
    page = trial_page(content_of_trial(gallery, 0))
    own = page.split("</script>", 1)[1]  # plotly.js knows addresses of maps, which no figure here uses
    assert not re.search(pattern, own)
    assert "default-src 'none'" in page


def test_hostile_text_stays_text(gallery: StudyContext) -> None:
    study = dataclasses.replace(
        content_of_study(gallery), name=HOSTILE, market=HOSTILE, lines=[HOSTILE],
        keys=[SearchedKey(HOSTILE, 0.7, 0.2, 0.5)],
    )  # fmt: skip
    trial = content_of_trial(gallery, 0)
    trial = dataclasses.replace(
        trial, title=HOSTILE, market=HOSTILE, notes=[HOSTILE], commands=[HOSTILE],
        features=[FeatureEffect(HOSTILE, 0.1, 0.0, 0.2)],
        run=dataclasses.replace(trial.run, parameters={HOSTILE: HOSTILE}, gate=HOSTILE),
    )  # fmt: skip
    for page in (study_page(study), trial_page(trial)):
        own = page.split("</script>", 1)[1]
        assert "<script>window.hit" not in own
        assert "<img" not in own
        assert "&lt;/script&gt;&lt;script&gt;window.hit=1" in own


def test_finalists_stand_beside_their_search_score_and_stress_tests(gallery: StudyContext) -> None:
    finalist = Finalist(
        study_name="gallery.model", parameter_set="a", rank=1, trial_number=2, parameters={HOSTILE: 1.0},
        search_score=1.7, fresh_score=0.3, lower_bound=-0.2, upper_bound=0.9, score_mean=0.3,
        score_deviation=0.1, score_min=0.1, score_max=0.4, random_quantile=0.9, seeds=3, infeasible=0,
        run_uuid="median",
    )  # fmt: skip
    content = dataclasses.replace(
        content_of_study(gallery),
        finalists=[finalist],
        stress=[StressRecord("median", "costs_x2", -0.45)],
        holdout=[
            FinalistHoldout(
                "median",
                date(2024, 1, 2),
                date(2024, 3, 1),
                datetime.now(UTC),
                -0.15,
                0.8,
                total_return=-0.02,
            )
        ],
    )
    rows = cells(study_page(content))
    assert ["1", "2", "+1.70", "+0.30", "-0.20", "+0.90"] in [row[:6] for row in rows]
    assert ["2", "-0.45"] in rows
    assert ["2", "-0.15", "+0.80", "-2.0%"] in [row[:4] for row in rows]


def test_a_trial_whose_files_are_gone_has_a_page(gallery: StudyContext, tmp_path: Path) -> None:
    content = dataclasses.replace(content_of_trial(gallery, 1), curves={}, free={}, trades=None)
    assert "The files with the returns of this trial are gone." in trial_page(content)


def test_text_in_tables_and_figures_is_escaped() -> None:
    assert table_html(["<b>"], [["a<b"]]).count("&lt;") == 2
    assert "</script><" not in figure_html({"data": [{"name": "</script><x>"}]}, "an <alternative>")[:-9]


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", "x")
