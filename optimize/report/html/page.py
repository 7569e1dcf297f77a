"""The frame of a report: one HTML file with styles, plotly.js and figures, and no request to a network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from optimize.atomic import replacing
from optimize.errors import BadInputError
from optimize.report.format import legend_text
from optimize.report.html.style import SCRIPT, STYLE

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
Figure = Mapping[str, Any]  # data and layout, as Plotly reads them


@dataclass(frozen=True)
class Section:
    """A part of a page with its own heading; the body is HTML whose texts are escaped."""

    title: str
    body: str


@dataclass(frozen=True)
class Tile:
    """One number at the top of a page."""

    label: str
    value: str
    note: str = ""


def render_page(title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Return the page: heading, numbers, sections, and plotly.js once."""
    from plotly.offline import get_plotlyjs

    boxes = "".join(
        f'<div class="tile"><div class="label">{escape(tile.label)}</div>'
        f'<div class="value">{escape(tile.value)}</div><div class="note">{escape(tile.note)}</div></div>'
        for tile in tiles
    )
    parts = "".join(
        f"<section><h2>{escape(each.title)}</h2>{each.body}</section>" for each in sections if each.body
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        f'<button id="theme" type="button" title="dark or light">◐</button>\n'
        f"<h1>{escape(title)}</h1>\n{lead}\n"
        f'<div class="tiles">{boxes}</div>\n{parts}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def write_page(path: Path, page: str) -> None:
    """Replace a page; raise BadInputError where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"file={str(path)!r} cannot be written ({error.strerror or error}): name a file in a folder that "
            "can be written to"
        ) from None


def figure_html(figure: Figure, alternative: str, height: int = 340) -> str:
    """Return a figure as HTML; the script of the page draws it in the colors of its theme."""
    data = [
        {**trace, "name": legend_text(name)} if (name := trace.get("name")) else trace
        for trace in figure["data"]
    ]
    content = json.dumps({**figure, "data": data}, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<div class="figure" role="img" aria-label="{escape(alternative)}" style="height:{height}px"></div>'
        f'<script type="application/json">{content}</script>'
    )


def table_html(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, long: bool = False
) -> str:
    """Return a table of texts, the first columns left and the others right; a long one is cut on paper."""
    sides = ["l"] * left + ["r"] * max(0, len(header) - left)

    def line(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(
            f'<{tag} class="{side}">{escape(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    table = f"<table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll{" long" * long}">{table}</div>'


def paragraph(text: str) -> str:
    """Return a text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def code_line(text: str) -> str:
    """Return a command."""
    return f"<pre>{escape(text)}</pre>"
