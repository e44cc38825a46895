from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ExpertCallError, ExpertProtocolError, ExpertUnavailableError
from experts.messages import Delta, Event, Finish, Usage
from experts.wire.anthropic_reader import MessageReader
from experts.wire.openai_reading import ChatReader
from experts.wire.reading import StreamReader, whole_answer


def chunk(text: str = "", finish: str | None = None, choice: int = 0, **rest: Any) -> bytes:
    delta = {"content": text} if text else {}
    piece = {"index": choice, "delta": delta, "finish_reason": finish}
    return data({"choices": [piece], **rest})


def data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def counted(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


DONE = b"data: [DONE]\n\n"


def reader(choices: int = 1, max_event_bytes: int = 10_000) -> StreamReader:
    return StreamReader("e", ChatReader(), choices, max_event_bytes)


def events(*pieces: bytes, choices: int = 1) -> list[Event]:
    stream = reader(choices)
    found = [event for piece in pieces for event in stream.feed(piece)]
    return found + stream.end()


@pytest.mark.parametrize("odd", [-1, 2**31, 2**63, 1e30, "many", [1], {"a": 1}])
def test_counts_that_cannot_be_are_no_report_and_the_answer_is_sound(odd: Any) -> None:
    pieces = [chunk("Hi"), chunk(finish="stop", usage=counted(odd, 3)), DONE]
    assert events(*pieces) == [Delta("Hi"), Finish("stop")]
    message = {
        "type": "message",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": odd},
    }
    read = whole_answer("e", MessageReader("json"), orjson.dumps(message))
    assert read[0] == Delta("Hi")
    assert not any(isinstance(event, Usage) for event in read)


HELLO: list[Event] = [Delta("Hel"), Delta("lo"), Finish("stop")]


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk("Hel"), chunk("lo"), chunk(finish="stop"), DONE],
        [chunk("Hel"), chunk("lo"), chunk(finish="stop")],
        [chunk("Hel"), b"data: {broken\n\n", chunk("lo"), b"data: 7\n\n", chunk(finish="stop")],
        [chunk("Hel"), data({"choices": "none"}), chunk("lo"), chunk(finish="stop")],
        [chunk("Hel"), chunk("lo"), chunk(finish="stop"), chunk("more"), chunk(finish="length")],
        [chunk("Hel"), chunk("lo"), chunk(finish="stop"), data({"error": "late"})],
        [chunk("Hel"), chunk("lo"), chunk(finish="stop"), DONE, chunk("more"), b"junk"],
    ],
    ids=[
        "usual",
        "no [DONE]",
        "malformed chunks",
        "a chunk of another shape",
        "text after the finish",
        "an error after the finish",
        "junk after [DONE]",
    ],
)
def test_the_answer_is_read_whatever_surrounds_it(pieces: Sequence[bytes]) -> None:
    assert events(*pieces) == HELLO


def test_malformed_chunks_are_counted() -> None:
    stream = reader()
    stream.feed(b"data: {broken\n\ndata: []\n\n" + chunk("a"))
    assert stream.malformed == 2


@pytest.mark.parametrize(
    "broken",
    [
        chunk("lo")[:-20] + b"\n\n",
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "funct\n\n',
        b'data: {"type": "content_block_delta", "index": 0, "delta": {"ty\n\n',
    ],
    ids=["text", "a call", "anthropic"],
)
def test_a_piece_of_the_answer_that_broke_off_is_not_passed_over(broken: bytes) -> None:
    with pytest.raises(ExpertProtocolError, match="piece of the answer"):
        events(chunk("Hel"), broken, chunk(finish="stop"))
    assert events(chunk("Hel"), chunk("lo"), chunk(finish="stop"), broken) == HELLO


@pytest.mark.parametrize("texts", [["Hel", "lo"], ["Hel", "Hello", "Hello"]], ids=["new", "all"])
def test_messages_in_place_of_deltas_are_pieces_or_all_so_far(texts: list[str]) -> None:
    messages = [data({"choices": [{"message": {"content": text}}]}) for text in texts]
    assert events(*messages, chunk(finish="stop")) == HELLO


@pytest.mark.parametrize("said", ["delta", "message"])
@pytest.mark.parametrize("first", [{}, {"role": "assistant"}, {"content": None}])
def test_messages_behind_a_beginning_without_a_text_are_read(
    said: str, first: dict[str, Any]
) -> None:
    messages = [data({"choices": [{"message": {"content": text}}]}) for text in ("Hel", "lo")]
    assert events(data({"choices": [{said: first}]}), *messages, chunk(finish="stop")) == HELLO


def test_a_message_after_deltas_says_nothing_new() -> None:
    whole = {"message": {"content": "Hello"}, "finish_reason": "stop"}
    assert events(chunk("Hel"), chunk("lo"), data({"choices": [whole]})) == HELLO


@pytest.mark.parametrize(
    "pieces",
    [[], [chunk("a")], [chunk("a"), DONE], [DONE], [chunk("a", choice=1), chunk(finish="stop")]],
    ids=["empty", "cut", "done too early", "only done", "one of two choices"],
)
def test_an_answer_without_its_finish_is_none(pieces: Sequence[bytes]) -> None:
    with pytest.raises(ExpertProtocolError, match="ended before"):
        events(*pieces, choices=2)


def test_a_choice_that_nobody_asked_for_is_passed_over() -> None:
    stream = reader()
    pieces = (chunk("Hel"), chunk("no", choice=1), chunk("lo"), chunk("no", "stop", 2))
    assert [event for piece in pieces for event in stream.feed(piece)] == HELLO[:2]
    assert (stream.malformed, stream.finished) == (2, False)
    assert [*stream.feed(chunk(finish="stop")), *stream.end()] == HELLO[2:]
    said = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop"}
        for index, text in enumerate(("Hello", "no"))
    ]
    whole = orjson.dumps({"choices": said})
    assert whole_answer("e", ChatReader(), whole) == [Delta("Hello"), Finish("stop")]
    assert len(whole_answer("e", ChatReader(), whole, 2)) == 4
    with pytest.raises(ExpertProtocolError, match="no finished choice"):
        whole_answer("e", ChatReader(), orjson.dumps({"choices": said[1:]}))


def test_usage_that_grows_with_each_chunk_is_counted_once() -> None:
    pieces = [
        chunk("a", usage=counted(5, 1)),
        chunk("b", usage=counted(5, 2)),
        chunk(finish="stop", usage=counted(5, 3)),
        data({"choices": [], "usage": counted(5, 3)}),
    ]
    found = events(*pieces)
    assert [event for event in found if isinstance(event, Usage)] == [Usage(input=5, output=3)]


def test_an_answer_is_finished_with_all_of_its_choices() -> None:
    stream = reader(choices=2)
    stream.feed(chunk("a", choice=0) + chunk(finish="stop", choice=0))
    assert not stream.finished
    stream.feed(chunk(finish="stop", choice=1))
    assert stream.finished
    assert not stream.done


def test_anthropics_last_event_is_the_last() -> None:
    stream = StreamReader("e", MessageReader(""))
    stream.feed(data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}))
    assert (stream.finished, stream.done) == (True, False)
    stream.feed(data({"type": "message_stop"}))
    assert stream.done


def test_an_error_within_the_stream_is_raised() -> None:
    with pytest.raises(ExpertUnavailableError, match="overloaded"):
        events(chunk("a"), data({"error": {"message": "overloaded"}}))


def test_an_event_without_end_is_an_error() -> None:
    with pytest.raises(ExpertProtocolError, match="longer than 100 bytes"):
        reader(max_event_bytes=100).feed(b"data: " + b"x" * 200)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_give_events_or_an_error_of_ours(content: bytes, cut: int) -> None:
    for prefix in (b"", b"data: ", chunk("a")):
        try:
            events(prefix + content[:cut], content[cut:])
        except ExpertCallError:
            continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "index", "usage", "content", "tool_calls"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_gives_events_or_an_error_of_ours(value: Any) -> None:
    for content in (value, {"choices": value}, {"choices": [value]}, {"usage": value}):
        try:
            events(data(content))
            whole_answer("e", ChatReader(), orjson.dumps(content))
        except ExpertCallError:
            continue


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<html>", "a web page"),
        (b'{"choices": [{"message"', "broken JSON"),
        (b"[]", "no object"),
        (b"{}", "no finished choice"),
        (b'{"choices": []}', "no finished choice"),
        (b'{"choices": null}', "no finished choice"),
        (b'{"choices": [7]}', "no chat completion"),
        (b'{"choices": [{"message": {"content": "x"}}]}', "no finished choice"),
    ],
)
def test_a_whole_answer_that_is_none(content: bytes, message: str) -> None:
    with pytest.raises(ExpertProtocolError, match=message):
        whole_answer("e", ChatReader(), content)


def test_an_error_with_a_good_status_is_an_error() -> None:
    with pytest.raises(ExpertUnavailableError, match="sorry"):
        whole_answer("e", ChatReader(), b'{"error": {"message": "sorry"}}')


def test_text_in_parts_and_parsed_arguments_are_understood() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    message = {"content": [{"type": "text", "text": "x"}, {"text": "y"}], "tool_calls": [call]}
    content = orjson.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
    delta, _ = whole_answer("e", ChatReader(), content)
    assert isinstance(delta, Delta)
    assert delta.text == "xy"
    assert delta.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize("odd", [-1, 2**62, 1.5, "x", [1]])
def test_a_choice_that_cannot_be_is_not_written_for_ever(odd: Any) -> None:
    # Writers begin all choices before the one that speaks.
    stream = reader()
    assert stream.feed(chunk(choice=odd)) == []
    with pytest.raises(ExpertProtocolError, match="piece of the answer"):
        stream.feed(chunk("lost", choice=odd))


@pytest.mark.parametrize("odd", [True, 1.5, [[]], {"a": 1}])
def test_only_a_word_ends_an_answer(odd: Any) -> None:
    pieces = (chunk("Hel", finish=odd), chunk("lo"), chunk(finish="stop"), DONE)
    assert events(*pieces) == HELLO
    with pytest.raises(ExpertProtocolError, match="ended before"):
        events(*pieces[:2], chunk(finish=odd), DONE)


def test_a_piece_in_a_chunk_of_no_known_shape_is_not_passed_over() -> None:
    odd = {"type": None, "delta": {"type": "text_delta", "text": "lost"}}
    stream = StreamReader("e", MessageReader("json"))
    assert stream.feed(data({"type": None, "delta": {}})) == []
    with pytest.raises(ExpertProtocolError, match="piece of the answer"):
        stream.feed(data(odd))


def test_a_whole_answer_ends_where_it_says_so_too() -> None:
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    read = whole_answer("e", ChatReader(), orjson.dumps({"choices": [choice, choice]}))
    assert read == [Delta("Hi"), Finish("stop")]


@pytest.mark.parametrize("falsy", [None, {}, [], "", 0, False])
def test_an_error_that_is_none_is_told_to_nobody(falsy: Any) -> None:
    pieces = (chunk("Hel", error=falsy), chunk("lo"), chunk(finish="stop", error=falsy), DONE)
    assert events(*pieces) == HELLO
    with pytest.raises(ExpertUnavailableError):
        events(data({"type": "error", "error": falsy}))


def test_an_answer_longer_than_any_is_ended() -> None:
    for piece in ({"content": "x" * 100}, {"reasoning_content": "x" * 100}, _call("x" * 100)):
        endless = data({"choices": [{"index": 0, "delta": piece}]})
        stream = reader(max_event_bytes=1_000)
        for _ in range(10):
            assert stream.feed(endless)
        with pytest.raises(ExpertProtocolError, match="does not end"):
            stream.feed(endless)


def test_of_an_answer_that_is_held_until_it_is_whole_every_byte_counts() -> None:
    piece = chunk("x")
    stream = StreamReader("e", ChatReader(), max_event_bytes=10 * len(piece), held=True)
    for _ in range(10):
        assert stream.feed(piece) == [Delta("x")]
    with pytest.raises(ExpertProtocolError, match="does not end"):
        stream.feed(piece)


def _call(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": arguments}}]}


def test_what_chunks_say_of_a_choice_beside_its_text_is_told_at_its_end() -> None:
    def said(finish: str | None = None, **rest: Any) -> bytes:
        return data({"choices": [{"index": 0, "delta": {}, "finish_reason": finish, **rest}]})

    told = events(
        chunk("Hi"),
        said(ids=[1], seen={"a": 1}, stop=None),
        said(ids=[2, 3], seen={"b": 2}, stop=4),
        said("stop", ids=[5], seen={"a": 6}),
    )
    assert told[-1] == Finish(
        "stop", fields={"ids": [1, 2, 3, 5], "seen": {"a": 6, "b": 2}, "stop": 4}
    )


def test_what_many_chunks_say_of_a_choice_is_not_copied_for_each() -> None:
    read = ChatReader()
    chunks = [{"choices": [{"index": 0, "ids": [number]}]} for number in range(3)]
    kept = []
    for each in chunks:
        assert list(read(each)) == []
        kept.append(read._choices[0]["ids"])
    assert kept[0] is kept[2]
    assert kept[0] == [0, 1, 2]
    assert chunks[0]["choices"][0]["ids"] == [0]


def test_nothing_is_read_behind_done() -> None:
    with pytest.raises(ExpertProtocolError, match="ended before"):
        events(chunk("Hi") + DONE + chunk(finish="stop"))
    assert events(chunk("Hi"), chunk(finish="stop"), DONE, chunk(usage=counted(1, 2)))[2:] == []
