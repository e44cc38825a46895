"""Whatever bytes a provider streams, the fast path and the ordinary one say and book the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import orjson
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from experts.base import Expert
from experts.errors import ExpertCallError
from experts.fakes.server import LAST_CHUNK, Act, FakeServer, ReceivedRequest, Then, chunk, head
from experts.fakes.server import serving as fake
from experts.messages import Collector, Usage
from experts.wire.openai_reading import ChatReader
from experts.wire.reading import StreamReader
from gateway.api.chat_out import ChunkWriter
from gateway.api.front import Envelope
from gateway.fast.streams import RawStream
from tests.conftest import Serve, Served

FIELDS = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "theirs"}
ENVELOPE = Envelope("dec-1", "ours", 5)
MOST = 100_000

_words = st.sampled_from(
    ["word", " a", "é", "🙂🙂", 'q"uote', "back\\slash", "li\nne", "", "theirs"]
)
_contents: st.SearchStrategy[Any] = _words | st.sampled_from(
    [None, 5, {}, [], [{"type": "text", "text": "part"}]]
)
_thoughts = st.sampled_from([None, None, "hm", "", ["x"], 5])
_deltas = st.builds(
    lambda delta, name, thought: delta if thought is None else {**delta, name: thought},
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.just("assistant"),
            "content": _contents,
            "refusal": st.sampled_from([None, "no", 5]),
            "extra": st.sampled_from([None, "x", {"a": 1}]),
        },
    ),
    st.sampled_from(["reasoning_content", "reasoning"]),
    _thoughts,
)
_calls = st.sampled_from(
    [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "", "arguments": ""}},
        5,
    ]
)
_of_choices = {
    "index": st.sampled_from([0, 0, 0, None, "0", 0.0, 1]),
    "finish_reason": st.sampled_from([None, None, None, "stop", "length", "", True, "error"]),
    "logprobs": st.sampled_from([None, 5, {"content": [{"token": "a", "logprob": -1.0}]}]),
    "native_finish_reason": st.sampled_from([None, "STOP"]),
}
_choices = (
    st.fixed_dictionaries({"delta": st.fixed_dictionaries({"content": _words})})
    | st.fixed_dictionaries({"delta": _deltas | st.none()}, optional=_of_choices)
    | st.fixed_dictionaries(
        {"delta": st.fixed_dictionaries({"tool_calls": st.lists(_calls, max_size=2)})}
    )
    | st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": _words})})
)
_odd_choices: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, "x", [None], [5], [{"delta": 5}], [{"index": -1}]]
)
_usages = st.sampled_from(
    [
        None,
        {},
        "x",
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
        {"prompt_tokens": -1, "completion_tokens": 2},
    ]
)
_odd_heads: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"id": ""}, {"id": 5}, {"created": None}, {"model": None}]
)


@st.composite
def _chunks(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.integers(0, 9)) == 0:
        return {**FIELDS, "choices": draw(_odd_choices)}
    found: dict[str, Any] = {
        **FIELDS,
        "choices": draw(st.lists(_choices, max_size=2) | st.tuples(_choices)),
    }
    if draw(st.integers(0, 4)) == 0:
        found["usage"] = draw(_usages)
    if draw(st.integers(0, 9)) == 0:
        found |= draw(_odd_heads)
    if draw(st.integers(0, 19)) == 0:
        found["error"] = draw(st.sampled_from([None, {}, {"message": "bad"}]))
    return found


_NOISE = [b": ping\n\n", b":\n", b"event: x\n", b"\n", b"nonsense\n", b"data:\n\n", b"data: 7\n\n"]
_STOP = {**FIELDS, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_COUNTED = {**FIELDS, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
_ENDS = [b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\r\n", b"\n \n"]


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    said, end = draw(_chunks()), draw(st.sampled_from(_ENDS))
    ascii_only = draw(st.booleans())
    data = json.dumps(said, ensure_ascii=True).encode() if ascii_only else orjson.dumps(said)
    if draw(st.integers(0, 19)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return b"data: " + data + end


def _event(said: Any) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"


_bodies = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(
        st.integers(0, 2).flatmap(lambda n: st.sampled_from(_NOISE) if not n else _events()),
        max_size=8,
    ),
    st.sampled_from([b"", _event(_STOP), _event(_STOP)]),
    st.sampled_from([b"", _event(_COUNTED)]),
    st.sampled_from([b"", b"data: [DONE]\n\n", b"data: [DONE]"]),
).map(lambda parts: b"".join((parts[0], *parts[1], *parts[2:])))


class Told(NamedTuple):
    """What a client adds up, and what is booked.

    Attributes:
        whole: It did not end in an error.
        calls: Names and arguments of each.
        usage: As the client was told.
        booked: The tokens, as reported.
        reason: The finish reason that is booked; `finish` is the one that was told.
    """

    whole: bool
    text: str
    thought: str
    calls: dict[int, str]
    finish: str | None
    ends: int
    usage: Any
    booked: Usage | None
    reason: str | None


def added_up(out: bytes, *, whole: bool, booked: Usage | None, reason: str | None) -> Told:
    text = thought = ""
    calls: dict[int, str] = {}
    finish = usage = None
    *events, rest = out.split(b"\n\n")
    assert not rest
    said = [event.removeprefix(b"data: ") for event in events]
    for data in map(orjson.loads, (each for each in said if each != b"[DONE]")):
        usage = data.get("usage") or usage
        for choice in data["choices"]:
            assert (choice["index"], finish) == (0, None)
            delta, finish = choice["delta"], choice.get("finish_reason")
            text += delta.get("content") or ""
            thought += delta.get("reasoning_content") or delta.get("reasoning") or ""
            for piece in delta.get("tool_calls") or ():
                body = piece["function"]
                written = (body.get("name") or "") + (body.get("arguments") or "")
                calls[piece["index"]] = calls.get(piece["index"], "") + written
    ends = said.count(b"[DONE]")
    assert not ends or said[-1] == b"[DONE]"
    return Told(whole, text, thought, calls, finish, ends, usage, booked, reason)


def by_the_fast_path(pieces: Sequence[bytes], *, include_usage: bool) -> Told:
    stream = RawStream(ENVELOPE, ChatReader, MOST, include_usage=include_usage)
    out = b""
    for piece in pieces:
        out += stream.feed(piece)
        if stream.done or stream.failure is not None:
            break
    if stream.failure is None:
        out += stream.close()
    whole = stream.failure is None
    kept = Collector()
    for event in stream.events():
        kept.add(event)
    told = added_up(out, whole=whole, booked=stream.usage, reason=stream.finish_reason)
    if told.text or told.thought:
        # Another call would go on from there.
        (choice,) = kept.completion().choices
        assert (choice.text, choice.reasoning) == (told.text, told.thought)
    if not whole:
        return told
    out += stream.ending(stream.usage or Usage(), None)
    return added_up(out, whole=True, booked=stream.usage, reason=stream.finish_reason)


def by_the_ordinary_path(pieces: Sequence[bytes], *, include_usage: bool) -> Told:
    reader = StreamReader("e", ChatReader(), 1, MOST)
    writer = ChunkWriter(ENVELOPE, include_usage=include_usage)
    out, collected = b"", Collector()

    def take(read: Callable[[], Any]) -> None:
        nonlocal out
        for event in read():
            collected.add(event)
            out += b"".join(writer.write(event))

    try:
        for piece in pieces:
            take(lambda piece=piece: reader.feed(piece))  # type: ignore[misc]
            if reader.done:
                break
        take(reader.end)
    except ExpertCallError:
        return added_up(out, whole=False, booked=None, reason=None)
    out += b"".join(writer.end(reader.usage or Usage(), None))
    reason = collected.completion().choices[0].finish_reason
    return added_up(out, whole=True, booked=reader.usage, reason=reason)


@settings(max_examples=500)
@given(_bodies, st.lists(st.integers(0, 3_000), max_size=6) | st.none(), st.booleans())
def test_a_client_hears_the_same_of_any_stream_however_it_is_cut(
    body: bytes, cuts: list[int] | None, include_usage: bool
) -> None:
    edges = range(len(body) + 1) if cuts is None else sorted({0, len(body), *cuts})
    pieces = [body[a:b] for a, b in pairwise(edges) if body[a:b]]
    note(repr(pieces))
    fast = by_the_fast_path(pieces, include_usage=include_usage)
    ordinary = by_the_ordinary_path(pieces, include_usage=include_usage)
    if ordinary.whole or fast.whole:
        assert fast == ordinary
    else:
        # What one reading, or one chunk of several choices, brought before an error is passed on by
        # the fast path alone.
        assert fast.text.startswith(ordinary.text)
        assert fast.thought.startswith(ordinary.thought)
        assert (fast.ends, ordinary.ends) == (0, 0)


class Says(FakeServer):
    """Streams `pieces`, whatever it is asked, and ends well or does not."""

    pieces: Sequence[bytes] = ()
    ends = True

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield head(200, {"content-type": "text/event-stream"}, None)
        yield from (chunk(piece) for piece in self.pieces)
        yield LAST_CHUNK if self.ends else Then.CLOSE


def served_by(serve: Serve, remote: Callable[..., Expert], url: str, place: Path) -> list[Served]:
    """A gateway with the fast path, and one without."""
    return [
        serve(
            {"a": remote("a", url)},
            server={"fast_path": fast},
            ledger={"url": f"sqlite:///{place}/{fast}.db"},
            execution={"max_retries": 0, "mid_stream": "error"},
            breaker={"failures": 1_000, "window": 1_000},
        )
        for fast in (True, False)
    ]


_BOOKED = (
    "status", "finish_reason", "input_tokens", "output_tokens", "tokens_estimated", "cost_nanousd"
)  # fmt: skip


def heard_and_booked(served: Served, asked: dict[str, Any]) -> tuple[Any, ...]:
    """What a client adds up, and what is in the books; of a failure that it is one."""
    answer = served.ask("a", **asked)
    record = served.record(answer)
    (attempt,) = record["attempts"]
    heard = spoken(answer, stream=asked["stream"])
    if heard is None:
        return (None, attempt["status"])
    return (heard, *(attempt[name] for name in _BOOKED))


def spoken(answer: httpx2.Response, *, stream: bool) -> Any:
    """Texts, reasons and tokens; None: it ended in an error."""
    if answer.status_code != 200:
        return None
    if not stream:
        body = answer.json()
        said = [
            (one["message"].get("content") or "", one["finish_reason"]) for one in body["choices"]
        ]
        return said, body["usage"]["total_tokens"]
    events = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    if events[-1] != "[DONE]":
        assert "error" in orjson.loads(events[-1])
        return None
    texts, reasons, tokens = dict[int, str](), dict[int, str](), None
    for data in map(orjson.loads, events[:-1]):
        tokens = (data.get("usage") or {}).get("total_tokens", tokens)
        for one in data["choices"]:
            at = one["index"]
            texts[at] = texts.get(at, "") + (one["delta"].get("content") or "")
            reasons |= {at: one["finish_reason"]} if one.get("finish_reason") else {}
    return texts, reasons, tokens


_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_ASKED = st.sampled_from(
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True, "tools": [_TOOL]},
        {"stream": True, "n": 2},
        {"stream": False},
        {"stream": False, "user": "u"},
    ]
)


def test_over_sockets_it_is_the_same_too_and_in_the_books(
    serve: Serve,
    remote: Callable[..., Expert],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reads in ("gateway.fast.relay", "experts.http.expert"):
        # Every body comes to its end, on a slow machine too.
        monkeypatch.setattr(f"{reads}._GRACE_S", 60.0)
    with fake(Says()) as provider:
        gateways = served_by(serve, remote, provider.url, tmp_path)

        @settings(max_examples=60)
        @given(_bodies, st.lists(st.integers(0, 3_000), max_size=3), st.booleans(), _ASKED)
        def same(body: bytes, cuts: list[int], ends: bool, asked: dict[str, Any]) -> None:
            edges = sorted({0, len(body), *cuts})
            provider.pieces = [body[a:b] for a, b in pairwise(edges) if body[a:b]]
            # Of one that comes unasked the fast path wants the end.
            provider.ends = ends or not asked["stream"]
            note(repr(provider.pieces))
            fast, ordinary = (heard_and_booked(each, asked) for each in gateways)
            assert fast == ordinary

        same()
        for served in gateways:
            verdict = served.verified()
            assert (verdict.faults, verdict.open_attempts) == ((), 0)
