"""What makes two requests the same: a digest that is blind to order of keys and to streaming."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from experts.messages import Message
from gateway.access.keys import Key
from gateway.ask import Ask

Scope = Literal["key", "project"]

# They say who asks or how the answer travels, never what it is.
_IRRELEVANT = {
    "stream",
    "stream_options",
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "pointsman",
}
# The conversation, which `ask.request.messages` has in one form for every wire.
_SPOKEN = {"messages", "input", "prompt"}


def fingerprint(ask: Ask, scope: Scope = "key") -> bytes:
    """Equal for requests to which the same answer may be given, 32 bytes.

    All that can change an answer is in it: the messages, every parameter, the model as it was
    asked for, the wishes, the wire. So is whose key it came with, or which project of keys.
    """
    return _digest(_identity(ask, scope), [_said(message) for message in ask.request.messages])


def surroundings(ask: Ask, scope: Scope = "key") -> bytes | None:
    """`fingerprint` with the last message's text left open; None if that is no user's question."""
    if ask.request.task != "chat":
        return None
    *before, last = ask.request.messages
    if last.role != "user" or not isinstance(last.content, str):
        return None
    return _digest(_identity(ask, scope), [*map(_said, before), dict(last.fields)])


def _identity(ask: Ask, scope: Scope) -> list[Any]:
    request = ask.request
    # A session decides who is asked only as long as nobody has answered yet; but always who embeds.
    passing = {"cache"} if request.task == "embed" else {"cache", "session"}
    return [
        _owner(ask.key, scope),
        ask.wire,
        ask.model,
        ask.wishes.model_dump(mode="json", exclude=passing),
        request.max_tokens,
        request.task,
        # Tokens are in no message.
        request.raw,
        _relevant(request.params, _IRRELEVANT),
        _relevant(ask.body, _IRRELEVANT | _SPOKEN),
        dict(request.source.headers) if request.source else {},
    ]


def _owner(key: Key, scope: Scope) -> list[Any]:
    if scope == "key":
        return [scope, key.name]
    # Who may not ask an expert must not get its answers from who may.
    rights = [[sorted(each.grant.experts), sorted(each.grant.policies)] for each in key.lineage]
    return [scope, key.project, rights, key.privacy]


def _said(message: Message) -> list[Any]:
    # The source has what only its own wire can say, such as an answer's opaque blocks.
    source = message.source.data if message.source else None
    return [message.role, message.content, dict(message.fields), source]


def _relevant(fields: Mapping[str, Any], without: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in without}


def _digest(identity: list[Any], messages: list[Any]) -> bytes:
    content = orjson.dumps([identity, messages], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).digest()
