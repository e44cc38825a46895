"""Examples to learn from, out of the ledger into a file of JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine

from eval.best_answers import GradedAnswer
from experts.whole_files import whole_file
from gateway.cli.console import out, say
from gateway.cli.graded import parse_tags
from gateway.cli.progress import filling
from gateway.errors import ConfigError, NothingToLearnError
from gateway.ledger.answers import graded_answers
from gateway.ledger.export import count_scored

Make = Callable[[Iterable[GradedAnswer]], Iterator[dict[str, Any]]]


def export_examples(
    engine: Engine,
    path: Path,
    make: Make,
    objective: str,
    second: str | None,
    tag: list[str] | None,
) -> None:
    """Write what `make` makes of the graded answers; the file appears whole or not at all.

    Raises:
        ConfigError: The file is not to hold JSON lines.
        NothingToLearnError: No example came out.
    """
    if path.suffix != ".jsonl":
        raise ConfigError(f"'{path}': examples are JSON lines; name a .jsonl file")
    left_out: dict[str, int] = {}
    wanted = parse_tags(tag)
    with filling("scored answers", count_scored(engine, objective)) as progress:
        answers = graded_answers(engine, left_out, objective=objective, second=second, tags=wanted)
        written = _write(make(_told(answers, progress)), path)
    for reason, count in left_out.items():
        say(f"left out: {count} scored answers {reason}")
    out.print(f"{written} examples in {path}")


def _told(answers: Iterable[GradedAnswer], progress: Callable[[int], None]) -> Iterator[Any]:
    for answer in answers:
        progress(1)
        yield answer


def _write(rows: Iterable[dict[str, Any]], path: Path) -> int:
    written = 0
    with whole_file(path) as whole, whole.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")
            written += 1
        if not written:
            raise NothingToLearnError("no graded answer makes such an example")
    return written
