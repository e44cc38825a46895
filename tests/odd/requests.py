"""Sound requests of every front that say all that can be said. Data."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
ASKED = "case 0"
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_FUNCTION = {"name": "weather", "description": "d", "parameters": _SCHEMA}
_PIXEL = "data:image/png;base64,AAAA"
_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_WISHES = {"session": "s", "max_cost_usd": 1, "tags": {"a": "b"}}

_CHAT: Json = {
    "model": "odd-chat",
    "messages": [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "name": "n",
            "content": [
                {"type": "text", "text": ASKED},
                {"type": "image_url", "image_url": {"url": _PIXEL, "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        {"role": "user", "content": ASKED},
    ],
    "tools": [{"type": "function", "function": _FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}},
    **{"max_tokens": 9, "temperature": 0.5, "top_p": 1, "n": 1, "stop": ["a"], "seed": 1},
    **{"logprobs": True, "top_logprobs": 1, "logit_bias": {"1": 1}, "user": "u"},
    **{"presence_penalty": 0, "parallel_tool_calls": True, "reasoning_effort": "low"},
    **{"stream": False, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}},
    "pointsman": _WISHES,
}
_COMPLETIONS: Json = {
    "model": "odd-completions",
    "prompt": [ASKED, ASKED],
    **{"max_tokens": 9, "temperature": 1, "n": 1, "best_of": 1, "stop": "x", "echo": False},
    **{"logprobs": 1, "suffix": None, "logit_bias": {"1": 1}, "user": "u"},
    **{"stream": False, "stream_options": {"include_usage": True}},
    "pointsman": _WISHES,
}
_RESPONSES: Json = {
    "model": "odd-chat",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": ASKED},
                {"type": "input_image", "image_url": _PIXEL, "detail": "low"},
            ],
        },
        {
            **{"type": "reasoning", "id": "r", "encrypted_content": None},
            "summary": [{"type": "summary_text", "text": "t"}],
        },
        {
            **{"type": "function_call", "id": "f", "call_id": "c1"},
            **{"name": "weather", "arguments": "{}"},
        },
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
        {"role": "user", "content": ASKED},
    ],
    "instructions": "i",
    "tools": [{"type": "function", **_FUNCTION, "strict": True}],
    "tool_choice": {"type": "function", "name": "weather"},
    "text": {
        "format": {"type": "json_schema", "name": "a", "schema": _SCHEMA},
        "verbosity": "low",
    },
    "reasoning": {"effort": "low", "summary": "auto"},
    **{"include": ["message.output_text.logprobs"], "top_logprobs": 1, "max_output_tokens": 20},
    **{"temperature": 1, "store": False, "stream": False, "previous_response_id": None},
    **{"metadata": {"a": "b"}, "truncation": "disabled"},
    "pointsman": _WISHES,
}
_DOCUMENT = {"type": "text", "media_type": "text/plain", "data": "x"}
_MESSAGES: Json = {
    "model": "odd-anthropic",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": ASKED},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                },
                {"type": "document", "title": "t", "source": _DOCUMENT},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    **{"type": "tool_result", "tool_use_id": "t1", "is_error": False},
                    "content": [{"type": "text", "text": "ok"}],
                },
                {"type": "text", "text": ASKED},
            ],
        },
    ],
    "tools": [{"name": "weather", "description": "d", "input_schema": _SCHEMA}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": _SCHEMA}},
    **{"stop_sequences": ["x"], "temperature": 1, "top_k": 3, "metadata": {"user_id": "u"}},
    "stream": False,
}
_EMBEDDINGS: Json = {
    "model": "odd-embeddings",
    "input": [ASKED, "b"],
    **{"encoding_format": "float", "dimensions": 2, "user": "u"},
    "pointsman": {"session": "s"},
}
BODIES = {
    "chat": _CHAT,
    "completions": _COMPLETIONS,
    "responses": _RESPONSES,
    "messages": _MESSAGES,
    "embeddings": _EMBEDDINGS,
}
MODELS = {
    "chat": ("odd-chat", "odd-anthropic", "auto"),
    "completions": ("odd-completions", "odd-chat", "auto"),
    "responses": ("odd-chat", "odd-anthropic", "auto"),
    "messages": ("odd-anthropic", "odd-chat", "auto"),
    "embeddings": ("odd-embeddings", "auto"),
}
"""Who is asked."""
