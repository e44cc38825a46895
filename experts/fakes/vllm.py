"""A vLLM server without a model: its own routes as they behave, and answers of a few words.

For tests of what moves engines: it sleeps and wakes in vLLM's steps, loses its weights at level 2,
takes adapters, counts its requests and asks for its key. Whoever asks it in its sleep waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from experts.fakes.server import (
    LAST_CHUNK,
    Act,
    FakeServer,
    ReceivedRequest,
    Then,
    chunk,
    event,
    head,
    whole,
)

_TAGS = frozenset({"weights", "kv_cache"})


class FakeVllm(FakeServer):
    """One server; tests set what it does.

    Attributes:
        model: The name of what it serves.
        version: What it says it is.
        api_key: What it wants to be told; "" lets everybody in.
        level: How deeply it sleeps, 0 awake.
        asleep: What of it is not in memory, of `weights` and `kv_cache`.
        loaded: Whether its weights are what they should be; without them it writes nonsense.
        adapters: Name to path of the adapters that it has.
        broken: Paths of adapters that it can't read.
        moves: What it was told to do, in order.
        running, waiting: Requests that it says it has.
        tokens: Tokens that it has written.
        hangs: It takes connections and says nothing any more.
        pace_s: Time between two words of a stream.
    """

    def __init__(self, model: str = "tiny", api_key: str = "") -> None:
        super().__init__()
        self.model = model
        self.version = "0.32.0"
        self.api_key = api_key
        self.level = 0
        self.asleep: frozenset[str] = frozenset()
        self.loaded = True
        self.adapters: dict[str, str] = {}
        self.broken: set[str] = set()
        self.moves: list[str] = []
        self.running = 0
        self.waiting = 0
        self.tokens = 0
        self.hangs = False
        self.pace_s = 0.0

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        url = urlsplit(asked.path)
        if self.hangs:
            yield Then.STALL
        elif self.api_key and asked.headers.get("authorization") != f"Bearer {self.api_key}":
            yield whole(401, {"error": "Unauthorized"}, {})
        elif url.path in ("/v1/chat/completions", "/v1/completions"):
            yield from self._written(asked.body)
        elif url.path == "/metrics":
            page = self._metrics().encode()
            yield head(200, {"content-type": "text/plain"}, len(page)) + page
        else:
            if url.path not in ("/health", "/version"):
                self.moves.append(asked.path)
            yield self._moved(url.path, parse_qs(url.query), asked.body)

    def _moved(self, path: str, query: Mapping[str, list[str]], body: Mapping[str, Any]) -> bytes:
        if path == "/version":
            return whole(200, {"version": self.version}, {})
        if path == "/sleep":
            self.level = int(query["level"][0])
            self.asleep = _TAGS
            self.loaded = self.loaded and self.level < 2
            if self.level == 2:
                self.adapters.clear()
        elif path == "/wake_up":
            self.asleep -= set(query.get("tags", _TAGS))
            self.level = self.level if self.asleep else 0
        elif path == "/collective_rpc" and "weights" not in self.asleep:
            self.loaded = self.loaded or body["method"] == "reload_weights"
        elif path == "/v1/load_lora_adapter":
            return self._loaded(body["lora_name"], body["lora_path"])
        elif path == "/v1/unload_lora_adapter":
            if self.adapters.pop(body["lora_name"], None) is None:
                return _error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        elif path not in ("/health", "/reset_prefix_cache"):
            return _error(404, "Not Found")
        return whole(200, {}, {})

    def _loaded(self, name: str, path: str) -> bytes:
        if path in self.broken:
            return _error(400, f"Loading lora {name} failed: No adapter found for {path}")
        self.adapters[name] = path
        return whole(200, {}, {})

    def _written(self, body: Mapping[str, Any]) -> Iterator[Act]:
        model = body.get("model")
        if model != self.model and model not in self.adapters:
            yield _error(404, f"The model `{model}` does not exist.")
            return
        if self.asleep:
            yield Then.STALL
        words = [f"{model}", "says", "hello"] if self.loaded else ["!!!!"]
        self.running += 1
        try:
            if body.get("stream"):
                yield from self._streamed(words, body)
            else:
                self.tokens += len(words)
                yield whole(200, _answer(body, " ".join(words)), {})
        finally:
            self.running -= 1

    def _streamed(self, words: list[str], body: Mapping[str, Any]) -> Iterator[Act]:
        yield head(200, {"content-type": "text/event-stream"}, None)
        for place, word in enumerate(words):
            yield self.pace_s
            self.tokens += 1
            delta = {"content": f" {word}" if place else word}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield chunk(event({"model": body["model"], "choices": [choice]}))
        ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield chunk(event({"model": body["model"], "choices": [ended]}))
        yield chunk(event({"model": body["model"], "choices": [], "usage": _usage(len(words))}))
        yield chunk(event("[DONE]")) + LAST_CHUNK

    def _metrics(self) -> str:
        label = f'{{engine="0",model_name="{self.model}"}}'
        figures = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "kv_cache_usage_perc": 0.25,
            "prefix_cache_queries_total": 40,
            "prefix_cache_hits_total": 30,
            "generation_tokens_total": self.tokens,
        }
        return "".join(f"vllm:{name}{label} {value}\n" for name, value in figures.items())


def _answer(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    said = {"text": text} if "prompt" in body else {"message": {"content": text}}
    choice = {"index": 0, **said, "finish_reason": "stop"}
    return {"model": body["model"], "choices": [choice], "usage": _usage(len(text.split()))}


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": 1 + words}


def _error(status: int, message: str) -> bytes:
    return whole(status, {"error": {"message": message, "type": "BadRequestError"}}, {})
