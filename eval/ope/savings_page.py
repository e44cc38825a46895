"""Writes what routing saved as savings.json and one self-contained page, savings.html."""

from __future__ import annotations

from pathlib import Path

import orjson

from eval.ope.page import environment
from eval.ope.savings import Savings
from eval.report import write_whole


def write_savings(found: Savings, directory: Path | str) -> Path:
    """Write both files, each whole or not at all; returns the page.

    Args:
        found: What was reckoned.
        directory: Where to; it is made if it is not there.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    page, figures = directory / "savings.html", directory / "savings.json"
    content = orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2)
    html = render_savings(found)
    write_whole(figures, lambda path: path.write_bytes(content))
    write_whole(page, lambda path: path.write_text(html, encoding="utf-8"))
    return page


def render_savings(found: Savings) -> str:
    """The page as one HTML document that needs no other file and no network."""
    return environment().get_template("savings.html.j2").render(found=found)
