"""Bodies that say what most bodies say, and nothing that has to be looked at twice. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from experts.record import record

_NUMBER = frozenset({int, float, bool, type(None)})
_KINDS = {
    "frequency_penalty": _NUMBER,
    "max_tokens": {int, type(None)},
    "messages": {list},
    "model": {str},
    "presence_penalty": _NUMBER,
    "seed": {int, type(None)},
    "stop": {str, list, type(None)},
    "stream": {bool},
    "stream_options": {dict},
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "user": {str, type(None)},
}
"""Fields that any chat expert takes, and of what kinds. Nothing is nested deeper than a message."""
_ROLES = ("user", "assistant", "system", "developer")


@record(eq=False)
class Plain:
    """What a body asks, if it is plain.

    Attributes:
        body: As it came.
        stream: Whether the answer is to be streamed.
        text: What `ChatRequest.text` would be.
        max_tokens: Most tokens of the answer, if it bounds them.
    """

    body: dict[str, Any]
    stream: bool
    text: str
    max_tokens: int | None


def read_plain(raw: bytes) -> Plain | None:
    """A body whose messages are texts and whose fields any chat expert takes.

    None: it is not plain, or it is wrong, and `parse_chat` knows what of it.
    """
    try:
        body = orjson.loads(raw)
        for name, value in body.items():
            if type(value) not in _KINDS[name]:
                return None
        texts = []
        for message in body["messages"]:
            content = message["content"]
            if type(content) is not str or len(message) != 2 or message["role"] not in _ROLES:
                return None
            texts.append(content)
        model = body["model"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    max_tokens = body.get("max_tokens")
    if not (texts and model and _are_right(body)) or (max_tokens is not None and max_tokens < 1):
        return None
    # Where nothing is said there is no line.
    text = "\n".join(texts if all(texts) else filter(None, texts))
    return Plain(body, body.get("stream", False), text, max_tokens)


def _are_right(body: dict[str, Any]) -> bool:
    """Whether what is within the two fields that hold more than one value is simple, too."""
    stop, options = body.get("stop"), body.get("stream_options")
    if type(stop) is list and not all(type(each) is str for each in stop):
        return False
    return options is None or all(type(each) is bool for each in options.values())
