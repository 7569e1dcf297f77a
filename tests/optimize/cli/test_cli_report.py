from pathlib import Path

import pytest

from tests.optimize.cli.conftest import Run


def test_the_page_of_a_study_lies_in_its_folder_or_where_it_is_named(
    run: Run, filled: str, tmp_path: Path
) -> None:
    code, out, err = run("report", "name=btc", filled)
    assert (code, err) == (0, "")
    assert out.startswith("studies/btc.model/reports/study.html: ")
    assert out.endswith(" MB, opens without a network\n")
    assert "+1.50" in (tmp_path / "studies/btc.model/reports/study.html").read_text(encoding="utf-8")
    code, out, _ = run("report", "name=btc", "trial=1", "file=one.html", filled)
    assert (code, out.partition(":")[0]) == (0, "one.html")
    assert "btc.model, trial 1" in (tmp_path / "one.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("name=btc", "trial=99"), "trial=99: btc.model has no finished trial of that number"),
        (("name=btc", "bundle=x"), "bundle='x': a report shows one bundle or one study"),
        (("bundle=nowhere",), "bundle=nowhere: no such folder"),
        (("name=btc", "shuffles=-1"), "shuffles=-1 is not allowed"),
    ],
)
def test_a_page_that_cannot_be_made_is_one_line(
    run: Run, filled: str, words: tuple[str, ...], line: str
) -> None:
    code, out, err = run("report", *words, filled)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_a_page_that_no_browser_opens_is_named(
    run: Run, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def find_none(address: str) -> bool:
        opened.append(address)
        return False

    monkeypatch.setattr("webbrowser.open", find_none)
    out = run("report", "name=btc", "open=true", filled)[1]
    assert out.endswith("no browser was found: open the file yourself\n")
    assert opened[0].startswith("file://")
