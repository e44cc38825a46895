"""What an odd answer says, read as plainly as can be: whatever does not fit says nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_HALF = re.compile(r"[\ud800-\udfff]")
"""Of a character, as JSON can write it and UTF-8 can't."""


def plain_text(texts: Iterable[str], *, wire: str) -> str:
    """The text of its first choice, or of all its blocks, up to its end."""
    text, unknown = "", set[Any]()
    for said in texts:
        data = json.loads(said)
        piece, over = _openai(data) if wire == "openai" else _message(data, unknown)
        text += piece
        if over:
            break
    return _HALF.sub("\ufffd", text)


def _openai(data: Any) -> tuple[str, bool]:
    text, over = "", False
    for choice in _list(_get(data, "choices")):
        if _get(choice, "index") not in (0, None) or over:
            continue
        said = _get(choice, "delta") or _get(choice, "message") or choice
        text += _said(_get(said, "content")) or _said(_get(choice, "text"))
        end = _get(choice, "finish_reason")
        over = isinstance(end, str) and bool(end)
    return text, over


def _said(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_said(_get(part, "text")) for part in content)
    return content if isinstance(content, str) else ""


def _message(data: Any, unknown: set[Any]) -> tuple[str, bool]:
    kind, text = _get(data, "type"), ""
    for block in _list(_get(data, "content")) if kind == "message" else ():
        text += _typed(block, "text")
    if kind == "content_block_start":
        block = _get(data, "content_block")
        text += _typed(block, "text")
        if isinstance(_get(block, "type"), str) and _get(block, "type") not in _KNOWN:
            unknown.add(str(_get(data, "index")))
    if kind == "content_block_delta" and str(_get(data, "index")) not in unknown:
        text += _typed(_get(data, "delta"), "text_delta")
    return text, kind == "message_stop"


_KNOWN = ("text", "thinking", "tool_use")


def _typed(data: Any, kind: str) -> str:
    # What is of no kind can't be passed over; of an unknown kind it has to be.
    named = _get(data, "type")
    return _said(_get(data, "text")) if named == kind or not isinstance(named, str) else ""


def _get(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []
