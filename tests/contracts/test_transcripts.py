"""What real providers send, each with habits of its own: read the same streamed and whole, by
clients of every format.

The files under `transcripts` are in the shape that these providers send, one answer as a stream
(`.sse`) and whole (`.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.cards import ExpertCard
from experts.messages import Collector, Usage
from experts.pieces import whole_calls, whole_fields
from experts.wire.anthropic import AnthropicDialect, Habits
from experts.wire.dialect import Dialect
from experts.wire.openai import ChatDialect
from experts.wire.reading import StreamReader, whole_answer
from tests.contracts.test_wires import ENVELOPE, HELLO, asked, every_pair, relayed
from tests.contracts.wire_cases import Call, Said
from tests.contracts.wire_fronts import ChatClient, Client, events_of

FOLDER = Path(__file__).parent / "transcripts"
LIMA, OSLO = {"city": "Lima"}, {"city": "Oslo"}


def calls(first: str, second: str) -> tuple[Call, ...]:
    return (first, "weather", LIMA), (second, "weather", OSLO)


SAID = {
    "openai": Said("Lima — “Perú”.", usage=Usage(8, 12, 0, 5, 4)),
    "openai-calls": Said(
        calls=calls("call_a", "call_b"), finish="tool_calls", usage=Usage(50, output=30)
    ),
    "azure": Said("Lima.", usage=Usage(11, output=3)),
    "vllm-reasoning": Said("\n\nLima", "\nPeru.\n", usage=Usage(15, output=6)),
    "deepseek": Said("Lima", "It asks for Peru's.", usage=Usage(16, output=2, reasoning=6)),
    "openrouter": Said("Lima", "Peru: ", usage=Usage(14, output=2, reasoning=3)),
    "mistral": Said(
        calls=calls("D681PevKs", "k29FmQx1a"), finish="tool_calls", usage=Usage(90, output=30)
    ),
    "magistral": Said("Lima", "Peru, so Lima.", usage=Usage(10, output=9)),
    # It says `stop` where others say `tool_calls`, and so do we to clients of its own format.
    "gemini": Said(
        "I look.",
        calls=calls("function-call-1", "function-call-2"),
        finish="stop",
        usage=Usage(40, output=20, reasoning=5),
    ),
    "ollama": Said(
        thought="Both.",
        calls=calls("call_x", "call_y"),
        finish="tool_calls",
        usage=Usage(60, output=40),
    ),
    "xai": Said("Lima", "Peru, so Lima.", usage=Usage(12, output=1, reasoning=386)),
    "llama-cpp": Said("Lima", finish="length", usage=Usage(12, output=2)),
    "anthropic": Said(
        "I look.",
        "Both cities.",
        calls("toolu_a", "toolu_b"),
        "tool_calls",
        Usage(7, 100, 20, 61),
    ),
}
every_transcript = pytest.mark.parametrize("name", SAID)


def dialect_of(name: str) -> Dialect:
    if name == "anthropic":
        return AnthropicDialect(ExpertCard("x", wire="anthropic"), Habits())
    return ChatDialect()


def test_every_transcript_is_read() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == SAID.keys()


def expected(name: str, client: Client) -> Said:
    said = SAID[name]
    if said.calls and not isinstance(client, ChatClient):
        said = replace(said, finish="tool_calls")
    silent = {n: getattr(Said(), n) for n in vars(said) if n not in client.hears}
    return replace(said, **{**silent, "sizes": ()})


def whole(name: str, client: Client) -> bytes:
    """What the client gets of the whole answer."""
    ask = asked(client, HELLO, stream=False)
    content = (FOLDER / f"{name}.json").read_bytes()
    collector = Collector()
    for event in whole_answer("x", dialect_of(name).reader(ask.request), content):
        collector.add(event)
    usage = collector.usage or Usage()
    return client.front.whole(ask, ENVELOPE, collector.completion(), usage)


def streamed(name: str, client: Client, sizes: list[int]) -> bytes:
    """What it gets of the stream, which comes in packets of these sizes, over and over."""
    ask = asked(client, HELLO, stream=True)
    reader = StreamReader("x", dialect_of(name).reader(ask.request))
    content, start, events = (FOLDER / f"{name}.sse").read_bytes(), 0, []
    while start < len(content):
        size = sizes[start % len(sizes)]
        events += reader.feed(content[start : start + size])
        start += size
    return relayed(client, ask, [*events, *reader.end()])


@every_transcript
@every_pair
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=7))
def test_a_provider_says_the_same_whole_and_streamed(
    client: Client, name: str, sizes: list[int]
) -> None:
    wanted = expected(name, client)
    assert client.whole(whole(name, client)) == wanted
    assert client.streamed(streamed(name, client, sizes)) == wanted


OURS = {"id", "object", "created", "model", "p", "obfuscation"}
"""What names an answer is said by us, and what pads a packet is not said again."""
THOUGHT = {"reasoning", "content"}
"""Under one name and apart from each other to our clients, whatever the provider does."""


def together(content: bytes) -> dict[str, Any]:
    """The chunks of a stream as one answer."""
    chunks = [json.loads(data) for data in events_of(content) if data != "[DONE]"]
    pieces = [choice for chunk in chunks for choice in chunk["choices"]]
    message = whole_fields(
        {n: v for n, v in piece["delta"].items() if n not in ("role", "tool_calls")}
        for piece in pieces
    )
    calls = numbered(call for piece in pieces for call in piece["delta"].get("tool_calls") or ())
    choice: dict[str, Any] = {}
    for piece in pieces:
        choice |= {n: v for n, v in piece.items() if v not in (None, {}) and n != "delta"}
    choice["message"] = {**message, "tool_calls": list(whole_calls(calls))}
    ids = [token for piece in pieces for token in piece.get("token_ids") or ()]
    answer: dict[str, Any] = {}
    for chunk in chunks:
        answer |= {n: v for n, v in chunk.items() if v is not None}
    return {**answer, "choices": [{**choice, "token_ids": ids}]}


def numbered(pieces: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pieces of calls, each with the number of its own, whatever the provider says."""
    known: list[str] = []
    for piece in pieces:
        if piece.get("id") and piece["id"] not in known:
            known.append(piece["id"])
        yield {**piece, "index": known.index(piece["id"]) if piece.get("id") else len(known) - 1}


def lost(sent: Any, got: Any, path: str = "") -> list[str]:
    """Places of what the provider sent that the client does not have."""
    if isinstance(sent, dict):
        known = got if isinstance(got, dict) else {}
        return [
            place
            for name, value in sent.items()
            if name not in OURS
            and not (path.endswith(".message") and name in THOUGHT)
            and not (path.endswith(".tool_calls") and name == "index")
            for place in lost(value, known.get(name), f"{path}.{name}")
        ]
    if isinstance(sent, list) and isinstance(got, list) and len(sent) == len(got):
        pairs = zip(sent, got, strict=True)
        return [place for one, other in pairs for place in lost(one, other, path)]
    return [] if sent in (None, [], "") or sent == got else [f"{path}: {sent!r} is {got!r}"]


@pytest.mark.parametrize("name", sorted(SAID.keys() - {"anthropic"}))
def test_fields_that_only_the_provider_knows_reach_clients_of_its_format(name: str) -> None:
    client = ChatClient()
    sent = json.loads((FOLDER / f"{name}.json").read_bytes())
    # What it counts only in the sum, or beside the answer, is a part of the answer with us.
    beside = {"gemini": "20 is 25", "xai": "1 is 387"}
    counted = [f".usage.completion_tokens: {beside[name]}"] if name in beside else []
    assert lost(sent, json.loads(whole(name, client))) == counted
    lines = (FOLDER / f"{name}.sse").read_bytes().split(b"\n\n")
    said = b"\n\n".join(line for line in lines if line.startswith(b"data")) + b"\n\n"
    assert lost(together(said), together(streamed(name, client, [64]))) == counted
