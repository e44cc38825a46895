"""Pages as self-contained HTML: how they are made, and written beside the figures they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from experts.whole_files import whole_file


def environment() -> Environment:
    """What pages are made with: everything is escaped, and a missing name is an error."""
    return Environment(
        loader=PackageLoader("eval"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(html: str, figures: Any, directory: Path | str, name: str) -> Path:
    """Write NAME.json and NAME.html, each whole or not at all; returns the page.

    Args:
        html: The page.
        figures: What it shows, JSON-able.
        directory: Where to; it is made if it is not there.
        name: Of both files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{name}.html"
    content = orjson.dumps(figures, option=orjson.OPT_INDENT_2)
    write_whole(directory / f"{name}.json", lambda path: path.write_bytes(content))
    write_whole(page, lambda path: path.write_text(html, encoding="utf-8"))
    return page


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file for anybody to read, which appears whole or not at all."""
    with whole_file(path) as written:
        write(written)
        written.chmod(0o644)
