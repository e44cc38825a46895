from __future__ import annotations

import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.messages import Delta, Finish
from experts.wire.halves import load_answer, without_halves
from experts.wire.openai_reading import ChatReader
from experts.wire.reading import StreamReader, whole_answer

_ANY = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from('\\"u'))


@given(_ANY)
def test_every_half_and_nothing_else_is_replaced(text: str) -> None:
    written = json.dumps(text).encode()
    known = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    # Two halves that belong together are a character, however they came there.
    assert load_answer(written) == known


@given(st.text())
def test_whole_characters_stay_as_they_are(text: str) -> None:
    for written in (json.dumps(text).encode(), orjson.dumps(text)):
        assert without_halves(written) == written


@given(st.binary())
def test_bytes_that_are_no_text_cost_their_characters_alone(raw: bytes) -> None:
    plain = re.sub(rb'["\\\x00-\x1f]', b"", raw)
    assert load_answer(b'"%b"' % plain) == plain.decode("utf-8", "replace")


def test_a_byte_order_mark_is_no_part_of_an_answer() -> None:
    assert load_answer(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_what_is_no_json_is_still_none() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        load_answer(rb'{"a": "\ud83d"')


def test_a_character_cut_between_two_chunks_costs_that_character_alone() -> None:
    reader = StreamReader("x", ChatReader())
    events = reader.feed(
        rb'data: {"choices":[{"index":0,"delta":{"content":"hi \ud83d"}}]}'
        + b"\n\n"
        + rb'data: {"choices":[{"index":0,"delta":{"content":"\ude00!"},"finish_reason":"stop"}]}'
        + b"\n\n"
    )
    assert events == [Delta("hi \ufffd"), Delta("\ufffd!"), Finish("stop")]
    assert reader.malformed == 0


def test_an_answer_that_ends_in_half_a_character_is_an_answer() -> None:
    cut = rb'{"choices":[{"index":0,"message":{"content":"hi \ud83d"},"finish_reason":"length"}]}'
    assert whole_answer("x", ChatReader(), cut) == [Delta("hi \ufffd"), Finish("length")]
