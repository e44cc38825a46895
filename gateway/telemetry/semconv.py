"""OpenTelemetry's words for what we know: the GenAI semantic conventions.

As of open-telemetry/semantic-conventions-genai in autumn 2026, where they are still under
development; a test compares the names with the installed `opentelemetry-semantic-conventions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from experts.messages import ChatRequest, Usage
from gateway.settings.experts import AnthropicSettings, ExpertSettings, UrlExpert

Value = str | bool | int | float | list[str]
Attributes = dict[str, Value]

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
CONVERSATION = "gen_ai.conversation.id"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a name
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
ERROR_TYPE = "error.type"

TOKENS = tuple(4**power for power in range(14))
DURATIONS = tuple(round(0.01 * 2**power, 2) for power in range(14))
FIRST_TOKENS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Bucket bounds as the conventions advise them."""

_OPERATIONS = {"openai.completions": "text_completion", "openai.embeddings": "embeddings"}
_PROVIDERS = {
    "anthropic.com": "anthropic",
    "openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "inference.ai.azure.com": "azure.ai.inference",
    "amazonaws.com": "aws.bedrock",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
_LONGEST_CONTENT = 32_768


@dataclass(frozen=True, slots=True)
class Model:
    """What an expert is to the outside: whose model, its name there, and where it answers."""

    provider: str
    name: str
    host: str | None = None
    port: int | None = None

    def attributes(self, operation: str) -> Attributes:
        """What every span and figure of a call to it says."""
        found: Attributes = {
            OPERATION: operation,
            PROVIDER: self.provider,
            REQUEST_MODEL: self.name,
        }
        if self.host is not None and self.port is not None:
            found |= {"server.address": self.host, "server.port": self.port}
        return found


def model_of(entry: ExpertSettings) -> Model:
    """The model behind a configured expert."""
    if not isinstance(entry, UrlExpert):
        return Model("pointsman", entry.id)
    url = urlsplit(entry.urls[0])
    host, flavour = url.hostname or "", "openai"
    if isinstance(entry, AnthropicSettings):
        flavour = "anthropic"
    known = (name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}"))
    port = url.port or (443 if url.scheme == "https" else 80)
    # An unknown host is called by the API that it speaks.
    return Model(next(known, flavour), entry.model or entry.id, host, port)


def operation_of(wire: str) -> str:
    """The operation that requests of a wire format ask for."""
    return _OPERATIONS.get(wire, "chat")


def request_attributes(request: ChatRequest, session: str | None) -> Attributes:
    """What the client asked for, but not what it said."""
    found: Attributes = {}
    for name, kind in (
        ("temperature", float),
        ("top_p", float),
        ("top_k", float),
        ("frequency_penalty", float),
        ("presence_penalty", float),
        ("seed", int),
    ):
        value = request.params.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[f"gen_ai.request.{name}"] = kind(value)
    if request.max_tokens is not None:
        found["gen_ai.request.max_tokens"] = request.max_tokens
    if request.stream:
        found["gen_ai.request.stream"] = True
    count = request.params.get("n")
    if isinstance(count, int) and count != 1:
        found["gen_ai.request.choice.count"] = count
    if request.needs_schema:
        found["gen_ai.output.type"] = "json"
    if session is not None:
        found[CONVERSATION] = session
    return found


def usage_attributes(usage: Usage) -> Attributes:
    """Tokens; cached ones are part of the input, and thought is part of the output."""
    found: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cache_read:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read
    if usage.cache_write:
        found["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write
    if usage.reasoning:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning
    return found


def messages_json(messages: list[tuple[str, str]], finish: str | None = None) -> str:
    """Messages as (role, text) in the conventions' own JSON, each cut to a bounded length."""
    ended: Mapping[str, str] = {} if finish is None else {"finish_reason": finish}
    found = [
        {"role": role, "parts": [{"type": "text", "content": text[:_LONGEST_CONTENT]}], **ended}
        for role, text in messages
    ]
    return orjson.dumps(found).decode()
