"""The items of OpenAI's Responses: checked, named, and turned into messages. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.messages import Json, Message
from experts.wire.depth import load_json
from gateway.api.body import fault

Item = Json
REFERENCE = "item_reference"
_OUTPUT = "function_call_output"
_ROLES = ("user", "assistant", "system", "developer")


def input_items(value: Any, answer_id: str) -> list[Item]:
    """The `input` of a body as checked items, each with an id.

    Raises:
        ApiError: 400 naming the item at fault.
    """
    if isinstance(value, str) and value:
        content = [{"type": "input_text", "text": value}]
        value = [{"type": "message", "role": "user", "content": content}]
    if not isinstance(value, list):
        raise fault("input", "must be a non-empty string or an array of items")
    return [_checked(item, f"input[{at}]", f"{answer_id}_in{at}") for at, item in enumerate(value)]


def _checked(item: Any, where: str, name: str) -> Item:
    if not isinstance(item, dict):
        raise fault(where, "must be an object")
    kind = item.get("type") or ("message" if "role" in item else None)
    check = _CHECKS.get(str(kind))
    if check is None:
        known = ", ".join(sorted(_CHECKS))
        raise fault(f"{where}.type", f"{kind!r} is not supported; there are {known}")
    check(item, where)
    given = item.get("id")
    if given is not None and not isinstance(given, str):
        raise fault(f"{where}.id", "must be a string")
    return {**item, "id": given or f"{_PREFIX.get(str(kind), 'item')}_{name}", "type": kind}


_PREFIX = {
    "message": "msg",
    "function_call": "fc",
    _OUTPUT: "fco",
    "reasoning": "rs",
}


def _check_message(item: Item, where: str) -> None:
    if item.get("role") not in _ROLES:
        raise fault(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    _parts(item.get("content"), f"{where}.content")


def _check_call(item: Item, where: str) -> None:
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name), str):
            raise fault(f"{where}.{name}", "must be a string")


def _check_output(item: Item, where: str) -> None:
    if not isinstance(item.get("call_id"), str):
        raise fault(f"{where}.call_id", "must be a string")
    _parts(item.get("output"), f"{where}.output")


def _check_reasoning(item: Item, where: str) -> None:
    for name in ("summary", "content"):
        parts = item.get(name)
        if parts is not None and not _is_objects(parts):
            raise fault(f"{where}.{name}", "must be an array of objects")


def _check_reference(item: Item, where: str) -> None:
    if not isinstance(item.get("id"), str):
        raise fault(f"{where}.id", "must be a string")


_CHECKS = {
    "message": _check_message,
    "function_call": _check_call,
    _OUTPUT: _check_output,
    "reasoning": _check_reasoning,
    REFERENCE: _check_reference,
}


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _parts(value: Any, where: str) -> str | tuple[Json, ...]:
    """Content as chat completions have it."""
    if isinstance(value, str):
        return value
    if not _is_objects(value):
        raise fault(where, "must be a string or an array of parts, each with a type")
    return tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(value))


def _part(part: Json, where: str) -> Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            if not isinstance(part.get("text"), str):
                raise fault(f"{where}.text", "must be a string")
            return {"type": "text", "text": part["text"]}
        case "refusal":
            return {"type": "refusal", "refusal": str(part.get("refusal") or "")}
        case "input_image":
            return _image(part, where)
        case "input_file":
            return _file(part, where)
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise fault(f"{where}.type", f"{part.get('type')!r} is not supported")


def _image(part: Json, where: str) -> Json:
    url = part.get("image_url")
    if not isinstance(url, str):
        raise fault(f"{where}.image_url", "must be a URL or a data: URL; stored files are not kept")
    detail = {"detail": part["detail"]} if part.get("detail") else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _file(part: Json, where: str) -> Json:
    if part.get("file_url"):
        raise fault(f"{where}.file_url", "is not fetched here; send file_data")
    names = ("file_data", "filename", "file_id")
    return {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}


@dataclass(slots=True)
class _Turn:
    """An assistant's turn while its items come."""

    content: str | tuple[Json, ...] | None = None
    calls: list[Json] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    signed: list[Json] = field(default_factory=list)

    def message(self) -> Message:
        fields: dict[str, Any] = {}
        if self.calls:
            fields["tool_calls"] = self.calls
        if thought := "".join(self.thoughts):
            fields["reasoning_content"] = thought
        if self.signed:
            fields["thinking_blocks"] = self.signed
        return Message("assistant", _plain(self.content) or None, fields)


def messages_of(items: Sequence[Item]) -> tuple[Message, ...]:
    """A conversation of items as messages; calls, text and thought of one turn become one message.

    Thought counts within the turn that is under way, as models want it between their tool calls;
    that of earlier turns is left out.
    """
    asked = (at for at, item in enumerate(items) if item.get("role") == "user")
    last_asked = max(asked, default=-1)
    messages: list[Message] = []
    turn: _Turn | None = None
    shown: list[Json] = []
    for at, item in enumerate(items):
        if shown and item["type"] != _OUTPUT:
            messages.append(Message("user", tuple(shown)))
            shown = []
        if _is_assistants(item):
            if turn is not None and _begins_anew(turn, item):
                messages.append(turn.message())
                turn = None
            turn = turn or _Turn()
            _extend(turn, item, thinks=at > last_asked)
            continue
        if turn is not None:
            messages.append(turn.message())
            turn = None
        messages.append(_message(item))
        shown += _pictures(item)
    if turn is not None:
        messages.append(turn.message())
    if shown:
        messages.append(Message("user", tuple(shown)))
    return tuple(message for message in messages if not _is_empty(message))


def _is_assistants(item: Item) -> bool:
    return item["type"] in ("reasoning", "function_call") or item.get("role") == "assistant"


def _begins_anew(turn: _Turn, item: Item) -> bool:
    if item["type"] == "function_call":
        return False
    return bool(turn.calls) or turn.content is not None


def _extend(turn: _Turn, item: Item, *, thinks: bool) -> None:
    if item["type"] == "message":
        turn.content = _parts(item.get("content"), "input")
    elif item["type"] == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        turn.calls.append({"id": item["call_id"], "type": "function", "function": function})
    elif thinks:
        signed = _opened(item.get("encrypted_content"))
        turn.signed += signed
        if not signed:
            parts: Iterable[Json] = item.get("content") or item.get("summary") or ()
            turn.thoughts += [str(part.get("text") or "") for part in parts]


def _message(item: Item) -> Message:
    if item["type"] == _OUTPUT:
        # Tool messages can hold text only.
        parts = _parts(item.get("output"), "input")
        texts = parts if isinstance(parts, str) else tuple(filter(_is_text, parts))
        return Message("tool", _plain(texts) or "", {"tool_call_id": item["call_id"]})
    return Message(str(item["role"]), _plain(_parts(item.get("content"), "input")))


def _pictures(item: Item) -> Iterable[Json]:
    """What else a tool's output shows: it follows the outputs of the same round."""
    parts = _parts(item.get("output"), "input") if item["type"] == _OUTPUT else ""
    return () if isinstance(parts, str) else (part for part in parts if not _is_text(part))


def _is_text(part: Json) -> bool:
    return bool(part["type"] == "text")


def _plain(content: str | tuple[Json, ...] | None) -> str | tuple[Json, ...] | None:
    """One text as a string: the form that every model's template knows."""
    if isinstance(content, tuple) and len(content) == 1 and content[0]["type"] == "text":
        return str(content[0]["text"])
    return content


def _is_empty(message: Message) -> bool:
    return message.role == "assistant" and message.content is None and not message.fields


def sealed(blocks: Sequence[Json]) -> str:
    """Signed thoughts as the `encrypted_content` of a reasoning item."""
    return base64.b64encode(orjson.dumps(list(blocks))).decode()


def _opened(value: Any) -> list[Json]:
    """The signed thoughts that we sealed; what others sealed means nothing here."""
    try:
        blocks = load_json(base64.b64decode(value, validate=True)) if value else []
    except (ValueError, TypeError, binascii.Error, orjson.JSONDecodeError):
        return []
    return list(blocks) if _is_objects(blocks) else []
