"""Chunks like the one before go through without being read, and say the same as if they were."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.wire.openai_reading import ChatReader
from gateway.api.front import Envelope
from gateway.fast.mould import Mould, mould_of
from gateway.fast.streams import RawStream, text_of

USAGE = [{}, {"usage": None}]


def payload(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    fields = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "theirs"}
    return orjson.dumps({**fields, "choices": [choice], **more})


def event(text: str, **more: Any) -> bytes:
    return b"data: " + payload(text, **more) + b"\n\n"


def mould() -> Mould:
    found = mould_of(payload("word"), payload("word").replace(b"theirs", b"ours"), "word")
    assert found is not None
    return found


def test_whole_events_of_the_form_are_told_apart_by_their_texts() -> None:
    piece = event("one") + event(" zwei ü")
    assert mould().texts(piece) == ["one", " zwei ü"]
    assert mould().passed(piece) == piece.replace(b"theirs", b"ours")


@pytest.mark.parametrize(
    "piece",
    [
        event("one")[:-1],
        event("one") + b"data",
        event(""),
        event('a "quote"'),
        event("a\\backslash"),
        event("a\nline"),
        event("one").replace(b"one", b"o\x01e"),
        event("one").replace(b"one", b"o\xffe"),
        event("one").replace(b"c-1", b"c-2"),
        event("one").replace(b"null", b'"stop"'),
        event("one", usage=None),
        b"data: [DONE]\n\n",
        b": comment\n\n",
        b"\n\n",
        event("one").replace(b"data: ", b"data:"),
    ],
)
def test_all_else_is_read(piece: bytes) -> None:
    assert mould().texts(piece) is None


@pytest.mark.parametrize("text", ["", "x", '"', "theirs", "c-1"])
def test_a_text_that_could_be_mistaken_makes_no_form(text: str) -> None:
    assert mould_of(payload(text), payload(text), text) is None
    named = payload(text).replace(b'"model":"theirs"', b'"model":"ours"')
    assert mould_of(payload(text), named, text) is None


TEXTS = st.lists(st.text(max_size=8), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    texts=TEXTS,
    size=st.sampled_from([1, 3, 40, 200, 1000, 10_000]),
    include_usage=st.booleans(),
    theirs=st.sampled_from(USAGE),
    bare=st.booleans(),
)
def test_a_stream_says_the_same_whichever_way_its_chunks_go(
    texts: list[str], size: int, include_usage: bool, theirs: dict[str, Any], bare: bool
) -> None:
    begin = event("", **theirs).replace(b'"content":""', b'"role":"assistant","content":""')
    whole = begin + b"".join(event(text, **theirs) for text in texts)
    whole += event("", **theirs).replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    if bare:
        whole = whole.replace(b'"id":"c-1",', b"")

    def told(*, moulds: bool) -> tuple[list[Any], str]:
        stream = RawStream(
            Envelope("d", "ours", 5), ChatReader, 10_000, include_usage=include_usage
        )
        out = b""
        for at in range(0, len(whole), size):
            out += stream.feed(whole[at : at + size])
            if not moulds:
                stream._mould = None
        assert stream.finished
        return [orjson.loads(line[6:]) for line in out.split(b"\n\n") if line], text_of(stream)

    assert told(moulds=True) == told(moulds=False)
    assert told(moulds=True)[1] == "".join(texts)
