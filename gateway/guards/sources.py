"""What a request says in Anthropic's words alone, and no message or parameter says again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from experts.messages import Json, Source
from experts.wire.anthropic_turns import WIRE

_SAID_OF_BLOCKS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "image": frozenset({"source"}),
    "document": frozenset({"source", "title"}),
    "search_result": frozenset({"content", "title"}),
    "tool_use": frozenset({"input", "name"}),
    "tool_result": frozenset({"content"}),
}
"""Fields of each type of block that messages say too; of all other types none."""
_SAID_OF_TOOLS = frozenset({"name", "description", "strict", "input_schema"})
_OWN = ("container", "context_management", "diagnostics", "mcp_servers", "user_profile_id")


def beyond_message(source: Source | None) -> list[Json]:
    """Of the blocks of one message."""
    return list(_beyond(source.data)) if source is not None and source.wire == WIRE else []


def beyond_request(source: Source | None) -> list[Any]:
    """Of a body, its messages apart."""
    if source is None or source.wire != WIRE:
        return []
    body = source.data
    # A tool of another type is Anthropic's own, and a parameter as it is.
    tools = (tool for tool in body.get("tools") or () if tool.get("type") in (None, "custom"))
    return [
        *(_without(tool, _SAID_OF_TOOLS) for tool in tools),
        *(body[name] for name in _OWN if name in body),
    ]


def _beyond(blocks: Iterable[Json]) -> Iterable[Json]:
    for block in blocks:
        yield _without(block, _SAID_OF_BLOCKS.get(str(block["type"]), frozenset()))
        content = block.get("content")
        if block["type"] == "tool_result" and isinstance(content, list):
            yield from _beyond(content)


def _without(fields: Json, said: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in said}
