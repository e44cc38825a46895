"""Anthropic's turns and content blocks in: to messages and parts in OpenAI's shape. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from experts.messages import Json, Message, Source
from experts.wire.anthropic_turns import WIRE
from gateway.api.body import fault

Parts = tuple[Json, ...]


def messages_of(turns: Any) -> tuple[Message, ...]:
    """All messages, each with the blocks that it was made from.

    Raises:
        ApiError: 400 naming the field at fault.
    """
    if not isinstance(turns, list) or not turns:
        raise fault("messages", "must be a non-empty array")
    return tuple(
        message
        for index, turn in enumerate(turns)
        for message in _of_turn(turn, f"messages[{index}]")
    )


def parts_of(blocks: Any, where: str) -> str | Parts:
    """Blocks as parts; one plain text as a string, as servers that know no parts want it."""
    parts = tuple(part for block in _checked(blocks, where) for part in _parts(block))
    only = parts[0] if len(parts) == 1 else {}
    return str(only["text"]) if only.get("type") == "text" else parts


def _of_turn(turn: Any, where: str) -> Iterator[Message]:
    if not isinstance(turn, dict):
        raise fault(where, "must be an object")
    role, content = turn.get("role"), turn.get("content")
    if role not in ("user", "assistant", "system"):
        raise fault(f"{where}.role", "must be user, assistant or system")
    if isinstance(content, str):
        yield Message(role, content)
        return
    blocks = _checked(content, f"{where}.content")
    if role == "user":
        if not blocks:
            raise fault(f"{where}.content", "must not be empty")
        yield from _of_user(blocks, where)
    elif role == "assistant":
        yield _of_assistant(blocks, where)
    else:
        yield _made(role, parts_of(blocks, where), {}, blocks)


def _checked(blocks: Any, where: str) -> list[dict[str, Any]]:
    if not (isinstance(blocks, list) and all(isinstance(b, dict) and "type" in b for b in blocks)):
        raise fault(where, "must be a string or an array of blocks, each with a type")
    for index, block in enumerate(blocks):
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise fault(f"{where}[{index}].text", "must be a string")
    return blocks


def _made(
    role: str, content: str | Parts | None, fields: dict[str, Any], blocks: list[dict[str, Any]]
) -> Message:
    return Message(role, content, fields, Source(WIRE, blocks, (content, fields)))


def _of_user(blocks: list[dict[str, Any]], where: str) -> Iterator[Message]:
    """Tool results each as a message of their own, then the rest as one."""
    shown: list[Json] = []
    for block in blocks:
        if block["type"] == "tool_result":
            message, pictures = _of_result(block, where)
            yield message
            shown += pictures
    rest = [block for block in blocks if block["type"] != "tool_result"]
    # Tool messages can hold text only; what else a result shows follows them.
    said = parts_of(rest, where)
    if shown:
        said = (*shown, *([{"type": "text", "text": said}] if isinstance(said, str) else said))
    if shown:
        # None of its own blocks say what is shown.
        yield Message("user", said)
    elif rest:
        yield _made("user", said, {}, rest)


def _of_result(block: dict[str, Any], where: str) -> tuple[Message, list[Json]]:
    if not isinstance(block.get("tool_use_id"), str):
        raise fault(f"{where}.content", "a tool_result needs the `tool_use_id` of its call")
    content = block.get("content") or ""
    parts = parts_of(content, where) if isinstance(content, list) else str(content)
    pictures: list[Json] = []
    if not isinstance(parts, str):
        pictures = [part for part in parts if part.get("type") != "text"]
        parts = "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")
    if block.get("is_error") and not parts.lower().startswith("error"):
        # The only way to say so that every expert understands.
        parts = f"Error: {parts}"
    fields = {"tool_call_id": block["tool_use_id"]}
    # What is shown is said after it, and no more by its block.
    told = {**block, "content": parts or []} if pictures else block
    return _made("tool", parts, fields, [told]), pictures


def _of_assistant(blocks: list[dict[str, Any]], where: str) -> Message:
    """Text and tool calls. Thoughts and what Anthropic's own tools did stay in the source."""
    said = parts_of([block for block in blocks if block["type"] == "text"], where)
    calls = [_call(block, where) for block in blocks if block["type"] == "tool_use"]
    content = said or (None if calls else "")
    unsigned = ("thinking", "")
    kept = [b for b in blocks if (b["type"], b.get("signature") or "") != unsigned]
    return _made("assistant", content, {"tool_calls": calls} if calls else {}, kept)


def _call(block: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(block.get("id"), str) or not isinstance(block.get("name"), str):
        raise fault(f"{where}.content", "a tool_use needs an id and a name")
    arguments = orjson.dumps(block.get("input") or {}).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}


def _parts(block: dict[str, Any]) -> Iterator[Json]:
    """One block as parts that experts of another wire understand, else as it is."""
    given = block.get("source")
    source: dict[str, Any] = given if isinstance(given, dict) else {}
    match block["type"], source.get("type"):
        case "text", _:
            yield _text(str(block.get("text") or ""))
        case "image", "base64" | "url":
            yield {"type": "image_url", "image_url": {"url": _url(source)}}
        case "document", "base64":
            name = block.get("title") or "document.pdf"
            yield {"type": "file", "file": {"filename": name, "file_data": _url(source)}}
        case "document", "text":
            yield _text(_titled(block, str(source.get("data") or "")))
        case "document", "content" if isinstance(source.get("content"), str):
            yield _text(_titled(block, source["content"]))
        case "document", "content":
            for inner in _checked(source.get("content"), "source.content"):
                yield from _parts(inner)
        case "search_result", _:
            texts = (str(inner.get("text") or "") for inner in block.get("content") or ())
            yield _text(_titled(block, "\n".join(texts)))
        case _:
            yield block


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _titled(block: Json, text: str) -> str:
    return f"{block['title']}\n{text}" if block.get("title") else text


def _url(source: Any) -> str:
    if source["type"] == "url":
        return str(source.get("url"))
    return f"data:{source.get('media_type')};base64,{source.get('data')}"
