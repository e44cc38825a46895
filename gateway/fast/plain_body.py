"""Bodies that say what most bodies say, and nothing that has to be looked at twice. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from gateway.api.chat_in import KINDS

_FIELDS = frozenset(
    {
        "frequency_penalty", "max_tokens", "messages", "model", "presence_penalty", "seed",
        "stop", "stream", "stream_options", "temperature", "top_p", "user",
    }
)  # fmt: skip
_ROLES = ("user", "assistant", "system", "developer")
_FEW = 200
"""Brackets; more may be nested too deep, see `experts.wire.depth`."""


class Plain(NamedTuple):
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
    if raw.count(b"{") + raw.count(b"[") > _FEW:
        return None
    try:
        body = orjson.loads(raw)
        if not body.keys() <= _FIELDS:
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
    stream, max_tokens = body.get("stream", False), body.get("max_tokens")
    if not texts or not model or type(model) is not str or type(stream) is not bool:
        return None
    if type(body["messages"]) is not list or not _are_right(body, max_tokens):
        return None
    # Where nothing is said there is no line.
    return Plain(body, stream, "\n".join(texts if all(texts) else filter(None, texts)), max_tokens)


def _are_right(body: dict[str, Any], max_tokens: Any) -> bool:
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        return False
    for name, value in body.items():
        if name in KINDS and value is not None and not isinstance(value, KINDS[name][0]):
            return False
    return "stream_options" not in body or type(body["stream_options"]) is dict
