"""A conversation in OpenAI's shape to Anthropic's: system blocks and turns. Pure.

A message that came in Anthropic's own shape, and was not changed since, goes out as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from experts.messages import Json, Message
from experts.wire.depth import load_json

WIRE = "anthropic.messages"
Block = dict[str, Any]

_FOREIGN_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_KEPT = ("cache_control", "citations")


class UnsaidError(ValueError):
    """Anthropic's wire format can't say this.

    Attributes:
        param: The field, by its name in chat completions.
        why: What follows its name.
    """

    def __init__(self, param: str, why: str) -> None:
        super().__init__(f"{param}: {why}")
        self.param = param
        self.why = why

    def within(self, where: str) -> UnsaidError:
        """The same of a field of `where`."""
        return UnsaidError(f"{where}.{self.param}", self.why)


@contextmanager
def saying(param: str) -> Iterator[None]:
    """What is of a kind that nobody counts on can't be said either."""
    try:
        yield
    except UnsaidError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnsaidError(param, "is of another kind than Anthropic's API can say") from error


def conversation(messages: Iterable[Message]) -> tuple[str | list[Block], list[Block]]:
    """System prompt ("" if there is none) and turns.

    Turns of one role are joined, tool results among them: the wire wants user and assistant in
    turn, and all results of one round of calls in one turn.

    Raises:
        UnsaidError: A part has no counterpart.
    """
    system: list[Block] = []
    turns: list[Block] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        with saying(where):
            try:
                blocks = _blocks_of(message)
            except UnsaidError as error:
                raise error.within(where) from error
        if message.role in ("system", "developer"):
            system += blocks
        elif blocks:
            _append(turns, "assistant" if message.role == "assistant" else "user", blocks)
    if not turns:
        # An instruction alone is still a question; the wire wants a turn.
        _append(turns, "user", system)
        system = []
    return _joined(system), [{**turn, "content": _short(turn["content"])} for turn in turns]


def parsed_arguments(text: str) -> dict[str, Any]:
    """A tool call's arguments as an object; what is none is kept as text under `arguments`."""
    if not text.strip():
        return {}
    try:
        parsed = load_json(text)
    except orjson.JSONDecodeError:
        return {"arguments": text}
    return parsed if isinstance(parsed, dict) else {"arguments": text}


def _append(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": list(blocks)})


def _joined(system: list[Block]) -> str | list[Block]:
    plain = all(block.keys() == {"type", "text"} for block in system)
    return "\n\n".join(block["text"] for block in system) if plain else system


def _short(blocks: list[Block]) -> str | list[Block]:
    only = blocks[0] if len(blocks) == 1 else {}
    return str(only["text"]) if only.keys() == {"type", "text"} else blocks


def _blocks_of(message: Message) -> list[Block]:
    as_it_came = message.source_on(WIRE)
    if as_it_came is not None:
        return list(as_it_came)
    if message.role == "tool":
        return [_tool_result(message)]
    if message.role == "function" or message.fields.get("function_call"):
        field = "role" if message.role == "function" else "function_call"
        raise UnsaidError(field, "function calls of the old kind are not understood; use tools")
    blocks = list(_content(message))
    if message.role != "assistant":
        return blocks
    if message.fields.get("audio"):
        raise UnsaidError("audio", "what was spoken can't be sent to an Anthropic expert")
    refusal = message.fields.get("refusal")
    said = [_text(refusal)] if isinstance(refusal, str) and refusal else []
    return [*_thoughts(message), *blocks, *said, *_tool_uses(message)]


def _content(message: Message) -> Iterator[Block]:
    """Blocks of the content. Empty texts are left out: the wire refuses them."""
    if isinstance(message.content, str):
        if message.content:
            yield _text(message.content)
        return
    for place, part in enumerate(message.content or ()):
        block = _part(part, f"content[{place}]")
        if block.get("type") != "text" or block.get("text"):
            yield block


def _thoughts(message: Message) -> Iterator[Block]:
    """Signed thoughts that an answer of ours carried and the client sent back."""
    blocks = message.fields.get("thinking_blocks")
    for block in blocks if isinstance(blocks, list) else ():
        yield {name: value for name, value in block.items() if name != "index"}


def _tool_uses(message: Message) -> Iterator[Block]:
    for place, call in enumerate(message.fields.get("tool_calls") or ()):
        function = call.get("function")
        if not isinstance(function, dict):
            raise UnsaidError(
                f"tool_calls[{place}]", f"a call of type {call.get('type')!r} can't be sent"
            )
        yield {
            "type": "tool_use",
            "id": _tool_id(call.get("id")),
            "name": function.get("name", ""),
            "input": parsed_arguments(str(function.get("arguments") or "")),
        }


def _tool_result(message: Message) -> Block:
    content = list(_content(message))
    tool_id = _tool_id(message.fields.get("tool_call_id"))
    block: Block = {"type": "tool_result", "tool_use_id": tool_id}
    if content:
        block["content"] = _short(content)
    return {**block, "is_error": True} if message.fields.get("is_error") is True else block


def _tool_id(value: Any) -> str:
    # Others write ids with dots and colons, which this wire refuses; a call and its result agree.
    return _FOREIGN_IN_ID.sub("_", str(value))


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _part(part: Json, where: str) -> Block:
    kept = {name: part[name] for name in _KEPT if name in part}
    match part.get("type"):
        case "text" | "input_text":
            return {**_text(str(part.get("text") or "")), **kept}
        case "refusal":
            return _text(str(part.get("refusal") or ""))
        case "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            return {"type": "image", "source": _source(str(url), where), **kept}
        case "file":
            return {**_document(part.get("file") or {}, where), **kept}
        case "input_audio":
            raise UnsaidError(where, "audio can't be sent to an Anthropic expert")
    # A block of Anthropic's own, sent by a client that knows whom it talks to.
    return dict(part)


def _source(url: str, where: str) -> Block:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    media_type, data = _data_url(url, where)
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: Json, where: str) -> Block:
    if file.get("file_id"):
        return {"type": "document", "source": {"type": "file", "file_id": file["file_id"]}}
    media_type, data = _data_url(str(file.get("file_data") or ""), where)
    source = {"type": "base64", "media_type": media_type, "data": data}
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source, **title}


def _data_url(url: str, where: str) -> tuple[str, str]:
    head, comma, data = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64") and comma):
        raise UnsaidError(where, "images and files must be URLs or base64 `data:` URLs")
    return head.removeprefix("data:").removesuffix(";base64"), data
