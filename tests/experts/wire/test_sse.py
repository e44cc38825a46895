from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experts.wire.sse import EventTooLongError, SseDecoder, is_stream


def payloads(*chunks: bytes) -> list[bytes]:
    decoder = SseDecoder()
    found = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return found + decoder.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n', [b'{"a":1}', b'{"b":2}', b"[DONE]"]),
        (b"data: a\n\ndata: last", [b"a", b"last"]),
        (b"data: a\n \t\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: \n\ndata\n\ngarbage\n\n{}\n\n", []),
        ("data: ü\u2028\u0085\n\n".encode(), ["ü\u2028\u0085".encode()]),
    ],
    ids=[
        "usual",
        "no space",
        "only one space is taken",
        "comments and other fields",
        "two lines",
        "JSON over two lines",
        "no blank lines",
        "no end of line at the end",
        "white space for a blank line",
        "byte order mark",
        "nothing at all",
        "line ends of Unicode are text",
    ],
)
def test_payloads_are_read_whatever_surrounds_them(
    stream: bytes, expected: list[bytes], end: bytes
) -> None:
    assert payloads(stream.replace(b"\n", end)) == expected


def test_an_event_is_there_as_soon_as_it_is_whole() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b'data: {"a":1}\n') == [b'{"a":1}']
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: [DO") == []
    assert decoder.feed(b"NE]\n") == [b"[DONE]"]


SPLIT = "ü".encode()
LINE_ENDS = [b"\n", b"\r", b"\r\n", b"\n\n"]
FIELDS = [b"data: ", b"data:", b'{"a":', b"1}", b"[DONE]", b": c", b" "]
PIECES = st.sampled_from([*FIELDS, *LINE_ENDS, SPLIT[:1], SPLIT[1:], b"\xef\xbb\xbf", b"\x00"])


@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(0, 80), max_size=12))
@example(b"data: 1\r\ndata: 2\r\n\r\n", [8, 18])
def test_events_do_not_depend_on_how_the_bytes_are_cut(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert payloads(*chunks) == payloads(stream)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=6))
def test_json_comes_back_as_it_was_sent(values: list[dict[str, str]]) -> None:
    stream = b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)
    assert [orjson.loads(payload) for payload in payloads(stream)] == values


@pytest.mark.parametrize(
    "piece",
    [b"data: " + b"x" * 100, b"data: " + b"x" * 100 + b"\ndata: ", b"data:\n" * 20],
    ids=["one line", "many lines", "empty lines"],
)
def test_an_event_without_end_is_refused_before_memory_is_full(piece: bytes) -> None:
    decoder = SseDecoder(max_bytes=1000)

    def feed() -> None:
        for _ in range(20):
            decoder.feed(piece)

    with pytest.raises(EventTooLongError):
        feed()


def test_an_event_of_many_lines_is_looked_at_a_few_times_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[bytes] = []

    def loads(payload: bytes) -> object:
        looked.append(payload)
        return orjson.loads(payload)

    told = SimpleNamespace(loads=loads, JSONDecodeError=orjson.JSONDecodeError)
    monkeypatch.setattr("experts.wire.sse.orjson", told)
    lines = b"data: [\n" * 1000 + b"data: 1\n" + b"data: ]\n" * 1000
    assert [event.count(b"\n") for event in payloads(lines + b"\ndata: {}\n")] == [2000, 0]
    assert len(looked) < 100


def test_a_long_stream_of_short_events_is_no_long_event() -> None:
    decoder = SseDecoder(max_bytes=1000)
    for _ in range(200):
        assert decoder.feed(b"data: " + b"x" * 100 + b"\n\n") == [b"x" * 100]
        assert decoder.feed(b"data: " + b"y" * 50) == []
        assert decoder.feed(b"y" * 50 + b"\n\n") == [b"y" * 100]


@pytest.mark.parametrize(
    ("kind", "beginning", "stream"),
    [
        ("text/event-stream", b"data: {}", True),
        ("text/event-stream; charset=utf-8", b"d", True),
        ("text/event-stream", b' {"error": {}}', False),
        ("application/json", b'{"choices": []}', False),
        ("application/json", b"data: {}\n\n", True),
        ("text/plain", b"\xef\xbb\xbf\n: hello\n\n", True),
        ("", b"event: message_start\n", True),
        ("", b"", False),
    ],
)
def test_a_body_is_told_to_be_a_stream_by_how_it_begins(
    kind: str, beginning: bytes, stream: bool
) -> None:
    assert is_stream(kind, beginning) is stream
