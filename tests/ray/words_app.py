"""A Serve application without a model: OpenAI's routes, and answers of three words."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse


@serve.deployment(
    health_check_period_s=0.5, graceful_shutdown_timeout_s=1, ray_actor_options={"num_cpus": 0}
)
class Words:
    """Says its own name and the number of its process."""

    def __init__(self, args: dict[str, Any]) -> None:
        # As weights would, so that whoever looks away for a second sees it all the same.
        time.sleep(args.get("load_s", 0))
        self._name = args["name"]

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        if body["model"] != self._name:
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        words = [self._name, "says", str(os.getpid())]
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        if body.get("stream"):
            return StreamingResponse(_events(words, usage), media_type="text/event-stream")
        text = " ".join(words)
        said = {"text": text} if "prompt" in body else {"message": {"content": text}}
        choice = {"index": 0, "finish_reason": "stop", **said}
        return JSONResponse({"model": self._name, "choices": [choice], "usage": usage})


def _events(words: list[str], usage: dict[str, int]) -> Iterator[str]:
    for place, word in enumerate(words):
        last = place == len(words) - 1
        delta = {"content": f" {word}" if place else word}
        choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
        yield f"data: {json.dumps({'choices': [choice]})}\n\n"
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def build(args: dict[str, Any]) -> serve.Application:
    """The application: `name` is the model's, `load_s` how long it takes to load."""
    words: Any = Words
    application: serve.Application = words.bind(args)
    return application
