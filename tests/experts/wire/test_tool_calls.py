"""However a provider cuts and numbers its tool calls, the same calls come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.messages import Collector, Delta, Json
from experts.wire.openai_reading import ChatReader
from experts.wire.tool_calls import ToolCallPieces, is_nameless

LIMA = {"id": "a", "type": "function", "function": {"name": "where", "arguments": '{"of":"Lima"}'}}
ROME = {"id": "b", "type": "function", "function": {"name": "where", "arguments": '{"of":"Rome"}'}}


def collected(pieces: Sequence[Any]) -> tuple[Json, ...]:
    collector = Collector()
    for piece in ToolCallPieces().ordered(pieces):
        collector.add(Delta(tool_calls=(piece,)))
    choices = collector.completion().choices
    return choices[0].tool_calls if choices else ()


def cut(call: Json, size: int) -> Iterator[dict[str, Any]]:
    """A call as OpenAI streams it, its arguments in pieces of `size` characters."""
    function = call["function"]
    yield {**call, "function": {"name": function["name"], "arguments": ""}}
    arguments = function["arguments"]
    for start in range(0, len(arguments), size):
        yield {"function": {"arguments": arguments[start : start + size]}}


def named(pieces: Iterator[dict[str, Any]], call: Json) -> Iterator[dict[str, Any]]:
    """Id, type and name in every piece, as some providers repeat them."""
    for piece in pieces:
        function = {**piece["function"], "name": call["function"]["name"]}
        yield {**piece, "id": call["id"], "type": "function", "function": function}


def numbered(pieces: Iterator[dict[str, Any]], index: int) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        yield {**piece, "index": index}


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    "pieces",
    [
        lambda n: [*numbered(cut(LIMA, n), 0), *numbered(cut(ROME, n), 1)],
        lambda n: [*cut(LIMA, n), *cut(ROME, n)],
        lambda n: [*named(cut(LIMA, n), LIMA), *named(cut(ROME, n), ROME)],
        lambda n: [*numbered(named(cut(LIMA, n), LIMA), 0), *numbered(cut(ROME, n), 0)],
        lambda n: [*numbered(cut(LIMA, n), 3), *numbered(cut(ROME, n), 7)],
        lambda n: [
            piece
            for pair in zip(numbered(cut(LIMA, n), 0), numbered(cut(ROME, n), 1), strict=True)
            for piece in pair
        ],
    ],
    ids=["openai", "no index", "all repeated", "index always 0", "gaps", "interleaved"],
)
def test_any_way_to_stream_gives_the_same_calls(pieces: Any, size: int) -> None:
    assert collected(pieces(size)) == (LIMA, ROME)


def test_whole_calls_without_ids_are_told_apart_and_named() -> None:
    bare = [{"index": 0, "function": call["function"]} for call in (LIMA, ROME)]
    first, second = collected(bare)
    assert first["function"] == LIMA["function"]
    assert second["function"] == ROME["function"]
    assert first["id"].startswith("call_")
    assert first["id"] != second["id"]


def test_arguments_sent_as_an_object_become_text() -> None:
    (call,) = collected([{"id": "a", "function": {"name": "where", "arguments": {"of": "Lima"}}}])
    assert orjson.loads(call["function"]["arguments"]) == {"of": "Lima"}


def test_nothing_that_was_said_is_said_again() -> None:
    pieces = list(ToolCallPieces().ordered(numbered(named(cut(LIMA, 4), LIMA), 0)))
    assert [piece.get("id") for piece in pieces] == ["a", *[None] * (len(pieces) - 1)]
    assert [piece["function"].get("name") for piece in pieces[1:]] == [None] * (len(pieces) - 1)


@pytest.mark.parametrize("rubbish", [[None], ["x"], [{}], [{"function": None}], [{"index": "0"}]])
def test_rubbish_does_not_break_the_stream(rubbish: list[Any]) -> None:
    collected(rubbish)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=4),
    st.integers(1, 7),
    st.booleans(),
    st.booleans(),
)
def test_every_argument_arrives(
    arguments: list[dict[str, str]], size: int, with_index: bool, repeated: bool
) -> None:
    calls = [
        {
            "id": f"c{place}",
            "type": "function",
            "function": {"name": "f", "arguments": orjson.dumps(each).decode()},
        }
        for place, each in enumerate(arguments)
    ]
    pieces: list[Json] = []
    for place, call in enumerate(calls):
        part = named(cut(call, size), call) if repeated else cut(call, size)
        pieces += numbered(part, place) if with_index else part
    assert collected(pieces) == tuple(calls)


def chunk(**choice: Any) -> Json:
    return {"choices": [{"index": 0, "finish_reason": None, **choice}]}


def read(*chunks: Json) -> Any:
    reader, collector = ChatReader(), Collector()
    for each in chunks:
        for event in reader(each):
            collector.add(event)
    return collector.completion()


def test_calls_that_come_only_with_the_last_chunk_are_not_lost() -> None:
    answer = read(
        chunk(delta={"role": "assistant", "content": "Let me see."}),
        chunk(
            delta={},
            message={"content": "Let me see.", "tool_calls": [LIMA, ROME]},
            finish_reason="tool_calls",
        ),
    )
    assert answer.text == "Let me see."
    assert answer.choices[0].tool_calls == (LIMA, ROME)


def test_a_last_chunk_that_says_it_all_again_adds_nothing() -> None:
    answer = read(
        chunk(delta={"content": "Well."}),
        *(chunk(delta={"tool_calls": [piece]}) for piece in numbered(cut(LIMA, 3), 0)),
        chunk(delta={}, message={"content": "Well.", "tool_calls": [LIMA]}, finish_reason="stop"),
    )
    assert answer.text == "Well."
    assert answer.choices[0].tool_calls == (LIMA,)


def test_fields_that_nobody_knows_survive_whole_and_in_pieces() -> None:
    audio = {"id": "au", "data": "abc", "transcript": "Hi there"}
    notes = [{"type": "url_citation", "url_citation": {"url": "https://x.example"}}]
    message = {"role": "assistant", "content": None, "refusal": None, "audio": audio}
    whole = read(
        {
            "system_fingerprint": "fp",
            "service_tier": "flex",
            "choices": [
                {
                    "index": 0,
                    "message": {**message, "annotations": notes},
                    "finish_reason": "stop",
                    "stop_reason": 7,
                }
            ],
        }
    )
    streamed = read(
        {"system_fingerprint": "fp", **chunk(delta={"audio": {"id": "au", "data": "ab"}})},
        chunk(delta={"audio": {"transcript": "Hi "}, "annotations": notes}),
        {"service_tier": "flex", **chunk(delta={"audio": {"data": "c", "transcript": "there"}})},
        chunk(delta={}, finish_reason="stop", stop_reason=7),
    )
    for answer in (whole, streamed):
        assert answer.fields == {"system_fingerprint": "fp", "service_tier": "flex"}
        assert answer.choices[0].fields["audio"] == audio
        assert answer.choices[0].fields["annotations"] == notes
        assert answer.choices[0].finish_fields == {"stop_reason": 7}
    assert whole.choices[0].fields["refusal"] is None


@pytest.mark.parametrize("number", [True, 1.0, "1", None, 7])
def test_a_piece_of_no_name_goes_on_with_the_call_before(number: Any) -> None:
    begun, *rest = cut(LIMA, 7)
    pieces = [{"index": 0, **begun}, *({"index": number, **piece} for piece in rest)]
    assert collected(pieces) == (LIMA,)


@pytest.mark.parametrize("odd", [5, True, [1], {"a": 1}])
def test_names_and_ids_are_words(odd: Any) -> None:
    pieces = ToolCallPieces()
    function = {"name": odd, "arguments": "{}"}
    assert not list(pieces.ordered([{"index": 0, "id": odd, "type": odd, "function": function}]))
    assert not pieces
    (call,) = pieces.nameless()
    assert is_nameless(call)
    assert call["id"].startswith("call_")
    assert call["type"] == "function"
    assert call["function"] == {"name": "", "arguments": "{}"}


@pytest.mark.parametrize(
    "before",
    [
        [],
        [{}],
        [{"function": {"arguments": ""}}],
        [{"id": "a"}],
        [{"id": "a", "type": "function", "function": {"name": ""}}],
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_call_is_told_from_its_name_on(before: list[dict[str, Any]], size: int) -> None:
    pieces = ToolCallPieces()
    told = list(pieces.ordered(numbered(iter([*before, *cut(LIMA, size)]), 4)))
    assert told[0] == {"index": 0, **LIMA, "function": {"name": "where", "arguments": ""}}
    assert collected(told) == (LIMA,)
    assert not list(pieces.nameless())


def test_arguments_before_the_name_are_kept() -> None:
    name, *arguments = cut(LIMA, 4)
    assert collected(list(numbered(iter([{"id": "a"}, *arguments, name]), 0))) == (LIMA,)


def test_what_says_nothing_is_no_call_and_what_others_have_run_needs_no_name() -> None:
    pieces = ToolCallPieces()
    browsed = {"id": "w", "type": "web_browser", "web_browser": {"input": "x"}}
    assert not list(pieces.ordered([{}, {"index": 0}, {"function": {"arguments": ""}}]))
    assert not list(pieces.nameless())
    (told,) = pieces.ordered([{"index": 1, **browsed}])
    assert told["web_browser"] == {"input": "x"}
    assert not is_nameless(told)
