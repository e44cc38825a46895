"""Reads files of preferences: JSONL, one pair of answers a line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from eval.errors import SourceError
from eval.judging.fitted import Pairs

_FIELDS: Final = {"prompt", "chosen", "rejected", "chosen_tokens", "rejected_tokens"}


def read_pairs(path: Path) -> Pairs:
    """Read `{"prompt", "chosen": {objective: score}, "rejected": {…}}`, one a line.

    `chosen_tokens` and `rejected_tokens` say how long the answers were, where that is known. Every
    line scores the same objectives.

    Raises:
        SourceError: The file can't be read; the message names row and column.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SourceError(path, error.strerror or "it can't be read") from error
    rows = [_row(path, place, line) for place, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise SourceError(path, "holds no pair")
    objectives = tuple(sorted(rows[0]["chosen"]))
    for place, row in enumerate(rows, 1):
        for side in ("chosen", "rejected"):
            if sorted(row[side]) != list(objectives):
                wanted = ", ".join(objectives)
                raise SourceError(
                    path, f"must score the objectives {wanted}", row=place, column=side
                )
    chosen_NK, rejected_NK = (
        np.array([[row[side][name] for name in objectives] for row in rows], dtype=np.float64)
        for side in ("chosen", "rejected")
    )
    lengths = [[row["chosen_tokens"], row["rejected_tokens"]] for row in rows]
    prompts = [row["prompt"] for row in rows]
    return Pairs(prompts, objectives, chosen_NK, rejected_NK, np.array(lengths, dtype=np.float64))


def _row(path: Path, place: int, line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise SourceError(path, f"is not JSON: {error}", row=place) from error
    if not isinstance(row, dict):
        raise SourceError(path, "must be an object", row=place)
    for name in row:
        if name not in _FIELDS:
            raise SourceError(path, "unknown", row=place, column=str(name))
    if not isinstance(row.get("prompt"), str):
        raise SourceError(path, "must be a text", row=place, column="prompt")
    for side in ("chosen", "rejected"):
        if not _scores(row.get(side)):
            problem = "must be objectives with scores from 0 to 1"
            raise SourceError(path, problem, row=place, column=side)
    for side in ("chosen_tokens", "rejected_tokens"):
        row.setdefault(side, math.nan)
        if not _number(row[side], math.inf):
            raise SourceError(path, "must be a number >= 0", row=place, column=side)
    return row


def _scores(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(_number(score, 1.0) and score == score for score in value.values())
    )


def _number(value: Any, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (value != value or 0 <= value <= most)
