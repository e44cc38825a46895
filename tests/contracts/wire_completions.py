"""OpenAI's legacy completions as clients speak them, for the differential test."""

from __future__ import annotations

import json
from typing import Any

from openai.types import Completion

from experts.messages import Usage
from gateway.api.completions import COMPLETIONS
from gateway.api.front import Front
from tests.contracts.wire_cases import Said, Wanted
from tests.contracts.wire_fronts import events_of


class CompletionsClient:
    """OpenAI's legacy completions, which know texts and nothing else; no word for calls either."""

    front: Front = COMPLETIONS
    hears = frozenset({"text", "usage"})

    def body(self, wanted: Wanted, *, stream: bool) -> dict[str, Any]:
        (turn,) = wanted.turns
        body = {"model": "x", "prompt": "".join(turn.parts)}
        return (
            {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body
        )

    def whole(self, content: bytes) -> Said:
        Completion.model_validate_json(content)
        return self._said([json.loads(content)])

    def streamed(self, content: bytes) -> Said:
        *chunks, done = events_of(content)
        assert done == "[DONE]"
        return self._said([json.loads(chunk) for chunk in chunks])

    def _said(self, answers: list[dict[str, Any]]) -> Said:
        # Each piece of a stream is a completion by itself; only the last has a reason.
        choices = [choice for answer in answers for choice in answer["choices"]]
        (finish,) = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        assert finish in ("stop", "length", "content_filter")
        counted = answers[-1]["usage"]
        read = counted["prompt_tokens_details"]
        cached, stored = read["cached_tokens"], read.get("cache_write_tokens", 0)
        thought = counted["completion_tokens_details"]["reasoning_tokens"]
        fresh = counted["prompt_tokens"] - cached - stored
        written = counted["completion_tokens"] - thought
        text = "".join(choice["text"] for choice in choices)
        usage = Usage(fresh, cached, stored, written, thought)
        return Said(text, usage=usage, sizes=())
