"""Anthropic's shapes: messages and their count."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.api.described.openai import Model, Wished
from gateway.api.described.operation import Open


class Block(Open):
    """A piece of content: `text`, `image`, `tool_use`, `tool_result`, `thinking`, `document`..."""

    type: str


class Turn(Open):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Open):
    """One that the client runs."""

    name: str
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class ServerTool(Open):
    """A tool that Anthropic runs."""

    type: Annotated[str, Field(pattern="_[0-9]{8}$")]


class CountBody(Open):
    """A conversation whose tokens are to be counted."""

    model: Model
    messages: list[Turn] = Field(min_length=1)
    system: str | list[Block] | None = None
    tools: list[Tool | ServerTool] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    pointsman: Wished = None


class MessagesBody(CountBody):
    """A conversation to be answered; other fields go to experts that take them."""

    max_tokens: int = Field(ge=0)
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: dict[str, Any] | None = None


class MessageUsage(Open):
    """Disjoint counts, but for `output_tokens`, which has the thought's in it."""

    input_tokens: int = Field(ge=0)
    cache_creation_input_tokens: int = Field(ge=0)
    cache_read_input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)


class AnthropicMessage(Open):
    """A whole answer; `model` names the expert."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(Open):
    """An event of an answer: `message_start`, `content_block_delta`, `message_delta`, ..."""

    type: str


class TokenCount(Open):
    """How long the prompt is."""

    input_tokens: int = Field(ge=0)
