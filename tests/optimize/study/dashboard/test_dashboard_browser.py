"""The dashboard as people see it: a real server, a real Chromium."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from optimize.study.dashboard.attach import attach_study_report
from tests.optimize.browser import PATIENCE_S, browser, wait_for
from tests.optimize.study.gallery import add_trial, close, make_context

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
SERVE = (
    "import sys; from optimize.study.dashboard.serve import serve; "
    "serve(sys.argv[1], sys.argv[2], '127.0.0.1', int(sys.argv[3]), 'gallery')"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Yield the address of the study's page, served by a process of its own."""
    context = make_context(tmp_path)
    for score in (1.23, -0.4, 0.8):
        add_trial(context, score)
    attach_study_report(context)
    close(context)
    command = [
        sys.executable,
        "-c",
        SERVE,
        context.spec.database.url,
        context.spec.output_dir,
        str(free_port()),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" ")[0]
            wait_until_answered(address)
            yield address
        finally:
            process.terminate()


def wait_until_answered(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for_text(browser: webdriver.Chrome, *texts: str) -> None:
    for text in texts:
        wait_for(browser, f"document.body.innerText.includes({json.dumps(text)})")


def test_the_dashboard_shows_study_trials_note_and_equity(
    site: str, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(site)
    wait_for_text(
        browser, "gallery.model", "Sharpe ratio by window", "equity of the top 3", "Best Trial (number=0)"
    )
    browser.set_window_size(1400, 2600)
    browser.save_screenshot(str(tmp_path / "study.png"))

    browser.set_window_size(1400, 1900)
    browser.get(f"{site}/trials?numbers=2")
    wait_for_text(
        browser,
        "Trial 0",
        "Trial 1",
        "Trial 2 (trial_id=3)",
        "Test windows",
        "Train spans",
        "2017-06-01",
        "buy_and_hold",
    )
    wait_for_text(browser, "walkforge replay name=gallery.model trial=2")
    picture = "[...document.images].find(i => i.alt === 'equity.png' || i.src.includes('/artifacts/'))"
    wait_for(browser, f"({picture})?.naturalWidth > 0")
    wait_for(browser, "document.querySelector('img[alt=\"Equity over the test windows\"]')?.naturalWidth > 0")
    assert "equity.csv" in browser.find_element(By.TAG_NAME, "body").text
    browser.save_screenshot(str(tmp_path / "trial.png"))

    browser.get(f"{site}/note")
    wait_for_text(browser, "searches PPO agents", "buy-and-hold")
