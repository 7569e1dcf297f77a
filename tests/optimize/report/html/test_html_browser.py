"""A page in a real Chromium: drawn without an error, dark and light, hostile text inert."""

import dataclasses
from pathlib import Path

import pytest
from selenium import webdriver

from optimize.report.html.page import write_page
from optimize.report.html.study import study_page
from optimize.report.html.trial import trial_page
from optimize.study.context import StudyContext
from tests.optimize.browser import browser, wait_for
from tests.optimize.report.html.test_html_pages import HOSTILE, content_of_study, content_of_trial

HOSTILE_TITLE = f"study {HOSTILE}"
__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
DRAWN = (
    "document.querySelectorAll('.figure .main-svg').length >= Number(document.documentElement.dataset.drawn)"
)


def test_pages_open_without_an_error(
    gallery: StudyContext, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    hostile = dataclasses.replace(content_of_study(gallery), name=HOSTILE, lines=[HOSTILE])
    for number, page in enumerate((study_page(hostile), trial_page(content_of_trial(gallery, 0)))):
        write_page(tmp_path / f"{number}.html", page)
        browser.get((tmp_path / f"{number}.html").as_uri())
        wait_for(browser, DRAWN)
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        assert browser.execute_script("return window.hit") is None
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        browser.execute_script("document.getElementById('theme').click()")
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
        assert browser.title == (HOSTILE_TITLE, "gallery.model, trial 0")[number]
