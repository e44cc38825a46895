"""Writes what routing saved as savings.json and one self-contained page, savings.html."""

from __future__ import annotations

from pathlib import Path

from eval.ope.savings import Savings
from eval.report.pages import environment, write_page


def write_savings(found: Savings, directory: Path | str) -> Path:
    """Write both files, each whole or not at all; returns the page.

    Args:
        found: What was reckoned.
        directory: Where to; it is made if it is not there.
    """
    return write_page(render_savings(found), found.as_json(), directory, "savings")


def render_savings(found: Savings) -> str:
    """The page as one HTML document that needs no other file and no network."""
    return environment().get_template("savings.html.j2").render(found=found)
