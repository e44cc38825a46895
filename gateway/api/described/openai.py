"""OpenAI's shapes: chat, completions, embeddings, models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.api.described.operation import Open
from gateway.ask import Wishes

Model = Annotated[
    str,
    Field(
        min_length=1,
        description="`auto`, `auto:<policy>`, `router:<name>`, an expert, an alias.",
        examples=["auto"],
    ),
]
Wished = Annotated[
    Wishes | None, Field(description="What the request wishes; never sent to an expert.")
]
Finish = str | None


class Part(Open):
    """A piece of content: `text`, `image_url`, `input_audio`, `file`."""

    type: str


class ChatMessage(Open):
    """One turn; `tool_calls`, `tool_call_id`, `name` and whatever else goes to the expert."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(Open):
    """How to stream."""

    include_usage: bool | None = None


class ChatBody(Open):
    """Fields that are not named here go to experts that take them."""

    model: Model
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=128)
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    pointsman: Wished = None


class PromptDetails(Open):
    """Parts of the prompt's tokens."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class AnswerDetails(Open):
    """Parts of the answer's tokens."""

    reasoning_tokens: int | None = None


class TokenUsage(Open):
    """What was read and written; details are parts of the sums."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int | None = Field(None, ge=0)
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: AnswerDetails | None = None


class AnswerMessage(Open):
    """What the expert said."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None


class ChatChoice(Open):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Finish
    logprobs: dict[str, Any] | None


class ChatCompletion(Open):
    """A whole answer; `model` names the expert."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice] = Field(min_length=1)
    usage: TokenUsage


class ChunkChoice(Open):
    """A piece of one answer."""

    index: int
    delta: dict[str, Any]
    finish_reason: Finish


class ChatChunk(Open):
    """A piece of an answer; the last has the usage and its cost for who asked for it."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None


Tokens = Annotated[list[int], Field(min_length=1)]
Inputs = (
    str
    | Tokens
    | Annotated[list[Annotated[str, Field(min_length=1)] | Tokens], Field(min_length=1)]
)


class CompletionBody(Open):
    """Prompts to be continued."""

    model: Model
    prompt: Inputs
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=0)
    n: int | None = Field(None, ge=1, le=128)
    best_of: int | None = Field(None, ge=1, le=128)
    logprobs: int | None = Field(None, ge=0)
    echo: bool | None = None
    suffix: str | None = None
    temperature: float | None = None
    pointsman: Wished = None


class TextChoice(Open):
    """One continuation."""

    index: int
    text: str
    finish_reason: Finish
    logprobs: dict[str, Any] | None


class TextCompletion(Open):
    """Whole continuations, `n` to each prompt."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice] = Field(min_length=1)
    usage: TokenUsage


class TextChunk(Open):
    """A piece of a continuation."""

    id: str
    object: Literal["text_completion"]
    model: str
    choices: list[TextChoice]
    usage: TokenUsage | None = None


class EmbeddingBody(Open):
    """Texts or tokens to be embedded."""

    model: Model
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None
    pointsman: Wished = None


class Embedding(Open):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Open):
    """What was read."""

    prompt_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class Embeddings(Open):
    """A vector for every input, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelJson(Open):
    """A name that `model` may say; in Anthropic's shape for who sends `anthropic-version`."""

    id: str
    object: Literal["model"] | None = None
    type: Literal["model"] | None = None
    pointsman: dict[str, Any]


class Models(Open):
    """All of them that the key may use."""

    data: list[ModelJson]
