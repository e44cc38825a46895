"""The shapes of OpenAI's Responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.api.described.openai import Model, Wished
from gateway.api.described.operation import Open


class MessageItem(Open):
    """A turn of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]


class CallItem(Open):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(Open):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[dict[str, Any]]


class ReasoningItem(Open):
    """What the model thought."""

    type: Literal["reasoning"]
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None


class ReferenceItem(Open):
    """An item of a kept response."""

    type: Literal["item_reference"]
    id: str


InputItem = MessageItem | CallItem | OutputItem | ReasoningItem | ReferenceItem


class FunctionTool(Open):
    """A function that the model may call."""

    type: Literal["function"]
    name: str = Field(min_length=1)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CountedBody(Open):
    """What a response would be asked with; without a model it is `auto`."""

    model: Model | None = None
    input: Annotated[str, Field(min_length=1)] | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = Field(None, min_length=1)
    tools: list[FunctionTool] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    pointsman: Wished = None


class InputTokens(Open):
    """How long that is."""

    object: Literal["response.input_tokens"]
    input_tokens: int = Field(ge=0)


class ResponseBody(Open):
    """Fields that are not named here go to experts that take them."""

    model: Model
    input: Annotated[str, Field(min_length=1)] | list[InputItem]
    instructions: str | None = None
    previous_response_id: str | None = Field(None, min_length=1)
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    tools: list[FunctionTool] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    pointsman: Wished = None


class ResponseUsage(Open):
    """What was read and written; details are parts of the sums."""

    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    input_tokens_details: dict[str, int]
    output_tokens_details: dict[str, int]


class ResponseItem(Open):
    """A `message`, a `function_call` or a `reasoning` item of the answer."""

    id: str
    type: Literal["message", "function_call", "reasoning"]


class ResponseJson(Open):
    """An answer; `model` names the expert."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[ResponseItem]
    store: bool
    usage: ResponseUsage


class ResponseEvent(Open):
    """An event of an answer: `response.created`, `response.output_text.delta`, ..."""

    type: str
    sequence_number: int = Field(ge=0)


class DeletedResponse(Open):
    """It is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class AskedItem(Open):
    """An item that a response was asked with."""

    id: str
    type: str


class InputItems(Open):
    """A page of them."""

    object: Literal["list"]
    data: list[AskedItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
