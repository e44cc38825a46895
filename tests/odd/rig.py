"""A gateway over a provider that answers oddly, and clients that ask many things at once."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx2

from experts.fakes.server import (
    LAST_CHUNK,
    Act,
    FakeServer,
    ReceivedRequest,
    chunk,
    event,
    head,
    serving,
)
from gateway.app import create_app
from gateway.ledger.database import opened
from gateway.ledger.verify import LedgerFindings, verify_ledger
from gateway.pool.pool import build_experts
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.wiring import build_gateway
from tests.faults.rig import nobody_left_behind
from tests.odd.answers import SHAPES, Shape
from tests.odd.nodes import written

AT_ONCE = 12
PATIENCE_S = 60.0
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
_ASIDE = re.compile(r"(\d+/)?(message/)?(id|object|created|model|usage|system_fingerprint)\b")
_CASE = re.compile(rb"case (\d+)")


@dataclass(frozen=True, slots=True)
class Odd:
    """One odd answer, and how it is asked for.

    Attributes:
        name: What is odd about it.
        shape: The sound answer it was made from.
        texts: Its events, or the one text that is all of it.
        front: How the client asks.
        stream: Whether it wants a stream.
        auto: A second expert could answer rightly.
    """

    name: str
    shape: Shape
    texts: tuple[str, ...]
    front: str
    stream: bool
    auto: bool

    @property
    def is_fast(self) -> bool:
        """Whether the fast path can serve it."""
        return (self.front, self.shape.wire, self.shape.api) == ("chat", "openai", "chat")

    @property
    def is_aside(self) -> bool:
        """What is odd is said about the answer, and is no part of it."""
        return _ASIDE.match(self.name) is not None

    def __str__(self) -> str:
        how = "stream" if self.stream else "whole"
        by = "auto" if self.auto else "named"
        return f"{self.shape.name} {self.front} {how} {by}: {self.name}"


class OddProvider(FakeServer):
    """Answers each request by the case that its prompt names; under `/sound/` rightly."""

    def __init__(self, cases: Sequence[Odd]) -> None:
        super().__init__()
        self._cases = cases

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        number = _CASE.search(json.dumps(asked.body).encode())
        # An odd request may have lost its prompt; it asks for the only case there is.
        case = self._cases[int(number[1]) if number else 0]
        stream = bool(asked.body.get("stream"))
        if not case.texts and not case.stream:
            case = replace(case, shape=_shape_of(asked))
        if "/sound/" in asked.path or stream != case.stream or not case.texts:
            shape = case.shape
            texts = tuple(map(written, shape.stream if stream else (_for(asked, shape.whole),)))
        else:
            texts = case.texts
        if not stream:
            data = texts[0].encode()
            yield head(200, {"content-type": "application/json"}, len(data)) + data
            return
        events = [chunk(event(text, _named(case, text))) for text in texts]
        if case.shape.wire == "openai":
            events.append(chunk(event("[DONE]")))
        yield head(200, {"content-type": "text/event-stream"}, None)
        # Two readings at least: some faults need the end of an answer to come by itself.
        yield b"".join(events[:2])
        yield b"".join((*events[2:], LAST_CHUNK))


def _for(asked: ReceivedRequest, whole: dict[str, Any]) -> dict[str, Any]:
    """The answer, with a vector for each input of this request."""
    if "data" not in whole:
        return whole
    first = whole["data"][0]
    return {**whole, "data": [{**first, "index": n} for n, _ in enumerate(asked.body["input"])]}


def _shape_of(asked: ReceivedRequest) -> Shape:
    ends = {"messages": "message", "embeddings": "vectors", "/v1/completions": "completion"}
    found = (name for end, name in ends.items() if asked.path.endswith(end))
    name = next(found, "text")
    return SHAPES["text" if asked.path.endswith("chat/completions") else name]


def _named(case: Odd, text: str) -> str | None:
    if case.shape.wire == "openai":
        return None
    name = re.search(r'"type":"(\w+)"', text)
    return name[1] if name else "odd"


Faults = dict[str, list[str]]
"""What went wrong, and all cases that it befell."""


class Listener(logging.Handler):
    """Keeps what was logged as broken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            text = logging.Formatter("%(name)s: %(message)s").format(record)
            self.heard.append(text[-3000:])


@contextmanager
def listening() -> Iterator[Listener]:
    """What anybody logs as broken while the context is open."""
    listener, root = Listener(), logging.getLogger()
    root.addHandler(listener)
    try:
        yield listener
    finally:
        root.removeHandler(listener)


def settings_for(base: str, directory: Path, *, fast: bool) -> Settings:
    """A pool of an odd expert and a sound one of each kind."""
    kinds: dict[str, dict[str, str]] = {
        "chat": {"api": "chat"},
        "anthropic": {"kind": "anthropic"},
        "completions": {"api": "completions"},
        "embeddings": {"api": "embeddings"},
    }
    prices = {"input": 1, "output": 2}
    experts = [
        {
            "id": f"{name}-{kind}",
            "base_url": f"{base}/{name}/v1",
            "model": "m",
            "quality_prior": 0.9 if name == "odd" else 0.2,
            "prices": prices,
            **more,
        }
        for kind, more in kinds.items()
        for name in ("odd", "sound")
    ]
    return Settings.model_validate(
        {
            "experts": experts,
            "execution": {"max_retries": 0, "retries_per_s": 1000},
            "breaker": {"failures": 1000, "window": 1000},
            "routing": {"epsilon": 0.0, "embeddings_expert": "odd-embeddings"},
            "ledger": {"url": f"sqlite:///{directory}/ledger.db"},
            "data_dir": str(directory),
            "server": {"fast_path": fast},
        }
    )


@dataclass(slots=True)
class Bench:
    """One gateway."""

    url: str
    gateway: Gateway
    listener: Listener

    def verified(self) -> LedgerFindings:
        anyio.run(self.gateway.ledger.flush)
        with opened(self.gateway.settings.ledger_url) as engine:
            return verify_ledger(engine)


@contextmanager
def bench(cases: Sequence[Odd], directory: Path, *, fast: bool) -> Iterator[Bench]:
    """A gateway over a provider that answers these cases."""
    with ExitStack() as stack:
        listener = stack.enter_context(listening())
        provider = stack.enter_context(serving(OddProvider(cases)))
        settings = settings_for(f"http://127.0.0.1:{provider.port}", directory, fast=fast)
        gateway = build_gateway(settings, build_experts(settings, {}), seed=1)
        url = stack.enter_context(background_server(create_app(gateway)))
        yield Bench(url, gateway, listener)
    assert provider.open == 0


def kind_of(shape: Shape) -> str:
    return "anthropic" if shape.wire == "anthropic" else shape.api


def body_of(front: str, prompt: str, *, stream: bool) -> dict[str, Any]:
    """A plain request."""
    message = {"role": "user", "content": prompt}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    match front:
        case "chat":
            return {"messages": [message], **options}
        case "completions":
            return {"prompt": prompt, **options}
        case "responses":
            return {"input": prompt, "store": False, "stream": stream}
        case "messages":
            return {"messages": [message], "max_tokens": 100, "stream": stream}
    return {"input": [prompt, "b"]}


Work = Callable[[httpx2.AsyncClient], Awaitable[None]]


async def at_once(url: str, works: Iterable[Work]) -> None:
    """Do all of it, `AT_ONCE` at a time."""
    todo = iter(works)
    limits = httpx2.Limits(max_connections=None)
    client = httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False, limits=limits)

    async def work() -> None:
        for each in todo:
            await each(client)

    async with client, anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(work)


def asked_for(number: int, case: Odd) -> tuple[str, dict[str, Any]]:
    """The path and the body that ask for a case."""
    body = body_of(case.front, f"case {number}", stream=case.stream)
    kind = kind_of(case.shape)
    if not case.auto:
        return PATHS[case.front], {"model": f"odd-{kind}", **body}
    ids = [f"odd-{kind}", f"sound-{kind}"]
    return PATHS[case.front], {"model": "auto", "pointsman": {"experts": ids}, **body}


def nothing_left(found: Bench) -> None:
    """The books hold, nobody logged a fault, and no request, call, slot or connection is left."""
    experts = [expert.id for expert in found.gateway.settings.experts]
    nobody_left_behind(found.gateway, experts)
    verdict = found.verified()
    assert (verdict.faults, verdict.open_attempts) == ((), 0)
    assert found.listener.heard == []
