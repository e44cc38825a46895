"""What a chunk adds to an answer, in the shape that official clients can add up. Pure."""

from __future__ import annotations

from typing import Any

from experts.messages import Json
from experts.wire.openai_reading import text_of, thought_of


def fit_choice(choice: Json, *, begun: bool) -> Json:
    """`choice` itself if its delta is fit, else one that says the same.

    Clients add up all strings of a message, its role too if it is said twice, and fail at a
    content that is a list of parts, and where index or delta are missing.

    Args:
        choice: Of one chunk.
        begun: An earlier chunk had one.
    """
    delta = choice.get("delta")
    if delta is None or "index" not in choice:
        delta = delta or {}
        choice = {"index": 0, **choice, "delta": delta}
    parts = delta.get("content")
    if not isinstance(parts, list) and not (begun and "role" in delta):
        return choice
    fit: dict[str, Any] = {n: v for n, v in delta.items() if not (begun and n == "role")}
    if isinstance(parts, list):
        said = {"content": text_of(parts), "reasoning_content": thought_of(parts)}
        fit = {**fit, "content": None, **{name: text for name, text in said.items() if text}}
    return {**choice, "delta": fit}
