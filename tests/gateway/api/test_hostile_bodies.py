"""Whatever JSON is sent: a request, or a 400 that says which field is wrong. Never a crash."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experts.cards import ExpertCard, FewShotPrompt
from experts.messages import ChatRequest
from experts.params import with_known_params
from experts.wire.openai import dialect_of
from gateway.access.keys import Key
from gateway.api.chat import CHAT
from gateway.api.completions import COMPLETIONS
from gateway.api.embeddings import EMBEDDINGS
from gateway.api.front import Front
from gateway.api.responses import PLAIN
from gateway.errors import ApiError
from routers.eligible import Constraints, eligible
from routers.features import estimate_prompt_tokens

KEY = Key("anyone")
CARDS = [
    ExpertCard("chats"),
    ExpertCard("continues", api="completions"),
    ExpertCard("embeds", api="embeddings"),
    ExpertCard("base", prompt=FewShotPrompt("", (("1?", "one"),))),
]
_WORDS = st.sampled_from(
    [
        "", "a", "user", "assistant", "system", "tool", "function", "message", "function_call",
        "function_call_output", "reasoning", "item_reference", "input_text", "output_text",
        "input_image", "input_file", "input_audio", "image_url", "text", "refusal", "auto", "none",
        "json_schema", "json_object", "allowed_tools", "disabled", "high", "base64", "e30=",
    ]
)  # fmt: skip
_NAMES = st.sampled_from(
    [
        "type", "role", "content", "text", "id", "call_id", "name", "arguments", "output", "format",
        "schema", "summary", "encrypted_content", "tools", "effort", "mode", "image_url",
        "file_data", "file_url", "detail", "function", "refusal", "tool_calls", "include_usage",
        "verbosity",
    ]
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats(-1, 3) | _WORDS
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
_FIELDS: dict[Front, list[str]] = {
    CHAT: [
        "messages", "max_tokens", "max_completion_tokens", "n", "tools", "functions", "stop",
        "response_format", "temperature", "stream_options", "tool_choice",
    ],
    PLAIN: [
        "input", "instructions", "tools", "tool_choice", "text", "reasoning", "include",
        "max_output_tokens", "metadata", "temperature", "truncation", "top_logprobs", "store",
        "previous_response_id", "background", "parallel_tool_calls",
    ],
    COMPLETIONS: [
        "prompt", "n", "best_of", "echo", "suffix", "logprobs", "max_tokens", "stop",
        "stream_options", "temperature",
    ],
    EMBEDDINGS: ["input", "encoding_format", "dimensions", "user"],
}  # fmt: skip


_SOUND = {
    "model": "x",
    "messages": [{"role": "user", "content": "Hi"}],
    "input": "Hi",
    "prompt": "Hi",
}


def bodies(front: Front) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from([*_FIELDS[front], "stream", "pointsman", "other"])
    # One at a time finds most: what is refused at its first fault is looked at no further.
    changed = st.dictionaries(names, _VALUES, max_size=1) | st.dictionaries(names, _VALUES)
    return changed.map(lambda fields: {**_SOUND, **fields})


def parsed(front: Front, body: dict[str, Any]) -> tuple[ChatRequest | None, ApiError | None]:
    try:
        return front.parse(orjson.dumps(body), {}, KEY).request, None
    except ApiError as error:
        return None, error


def taken(front: Front, body: dict[str, Any]) -> None:
    request, refused = parsed(front, body)
    if request is None:
        assert refused is not None
        assert refused.status == 400
        assert refused.param
        return
    able, _ = eligible(request, estimate_prompt_tokens(request), CARDS, {}, Constraints())
    for card in able:
        orjson.dumps(dialect_of(card).body(with_known_params(request, card), "m"))


@pytest.mark.parametrize("front", _FIELDS, ids=lambda front: front.wire)
def test_any_body_is_taken_or_refused_by_name(front: Front) -> None:
    @settings(max_examples=400, deadline=None)
    @given(bodies(front))
    def check(body: dict[str, Any]) -> None:
        taken(front, body)

    check()


_ITEM = st.dictionaries(_NAMES, _VALUES, max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(_ITEM, min_size=1, max_size=3))
@example([{"role": "user", "content": "a", "id": []}])
@example([{"role": "user", "content": "a", "type": []}])
@example([{"type": "reasoning", "content": [{"text": 3}], "encrypted_content": "W10="}])
def test_any_items_are_taken_or_refused_by_name(items: list[Any]) -> None:
    taken(PLAIN, {"model": "x", "input": items})


@settings(max_examples=300, deadline=None)
@given(st.lists(_ITEM, min_size=1, max_size=3))
def test_any_messages_are_taken_or_refused_by_name(messages: list[Any]) -> None:
    taken(CHAT, {"model": "x", "messages": messages})
