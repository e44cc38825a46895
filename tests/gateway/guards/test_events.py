"""Guards over answers: any cutting of the same answer comes out the same, whatever is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.messages import (
    ChatRequest,
    Collector,
    Completion,
    Delta,
    Event,
    Finish,
    Message,
    Usage,
)
from gateway.guards.base import Record
from gateway.guards.events import EventGuard, FailedError, StoppedError
from gateway.guards.finder import Detector, Finder
from gateway.guards.pii import Placeholders
from gateway.guards.texts import Eye, read_request
from gateway.settings.guards import Action

FINDER = Finder([Detector("email", r"[a-z]{1,9}@[a-z]{1,9}\.[a-z]{2,3}")], streams=True)
TEXT = st.lists(st.sampled_from(["bo@x.org", "am@y.de", "a", "@", ".", " "]), max_size=6).map(
    "".join
)


def guard(action: Action = "redact") -> tuple[EventGuard, Record]:
    record = Record("pii", "output", action, Counter())
    return EventGuard(Eye(FINDER, action, Placeholders(), record)), record


def passed(events: list[Event], action: Action = "redact") -> tuple[Completion, Counter[str]]:
    reader, record = guard(action)
    collector = Collector()
    try:
        for event in events:
            for each in reader.write(event):
                collector.add(each)
    except StoppedError as stop:
        for each in stop.last:
            collector.add(each)
    return collector.completion(), record.found


def cut(draw: st.DrawFn, text: str) -> Iterator[str]:
    while text:
        size = draw(st.integers(1, 9))
        yield text[:size]
        text = text[size:]


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """An answer of a thought, a text and two tool calls in whole pieces, and cut."""
    thought, text, *arguments = (draw(TEXT) for _ in range(4))
    whole: list[Event] = [Delta(reasoning=thought), Delta(text)]
    pieces: list[Event] = [Delta(reasoning=part) for part in cut(draw, thought)]
    pieces += [Delta(part) for part in cut(draw, text)]
    for index, argument in enumerate(arguments):
        named = {"index": index, "id": f"c{index}", "type": "function"}
        function = {"name": "f", "arguments": argument}
        whole.append(Delta(tool_calls=({**named, "function": function},)))
        pieces.append(Delta(tool_calls=({**named, "function": {**function, "arguments": ""}},)))
        pieces += [
            Delta(tool_calls=({"index": index, "function": {"arguments": part}},))
            for part in cut(draw, argument)
        ]
    end: list[Event] = [Finish("tool_calls"), Usage(1, output=2)]
    return [*whole, *end], [*pieces, *end]


@settings(deadline=None, max_examples=200)
@given(answers(), st.sampled_from(["redact", "block", "flag"]))
def test_however_an_answer_is_cut_the_same_passes(
    answer: tuple[list[Event], list[Event]], action: Action
) -> None:
    whole, pieces = answer
    (left, found), (right, found_in_pieces) = passed(whole, action), passed(pieces, action)
    assert left.choices == right.choices
    assert found == found_in_pieces


@settings(deadline=None)
@given(TEXT)
def test_what_is_redacted_is_not_in_the_answer(text: str) -> None:
    completion, found = passed([*(Delta(part) for part in text), Finish("stop")])
    assert list(FINDER.pieces(completion.text)) in ([completion.text], [])
    assert completion.text.count("[EMAIL_") == found["email"]


def test_a_stop_ends_every_choice_and_lets_pass_what_came_before() -> None:
    events: list[Event] = [Delta("one ", 1), Delta("mail b"), Delta("o@x.org "), Delta("never")]
    completion, found = passed(events, "block")
    assert [(each.text, each.finish_reason) for each in completion.choices] == [
        ("mail ", "content_filter"),
        ("one ", "content_filter"),
    ]
    assert found == {"email": 1}


def test_log_probabilities_do_not_repeat_what_was_redacted() -> None:
    piece = Delta("bo@x.org ", logprobs={"content": [{"token": "bo@x.org"}]})
    completion, _ = passed([piece, Finish("stop")])
    assert completion.choices[0].logprobs is None
    assert passed([piece, Finish("stop")], "flag")[0].choices[0].logprobs is not None


def test_other_fields_are_read_and_signatures_are_not() -> None:
    fields = {"refusal": "ask bo@x.org", "thinking_blocks": [{"signature": "bo@x.org"}]}
    completion, _ = passed([Delta(fields=fields), Finish("stop")])
    assert completion.choices[0].fields["refusal"] == "ask [EMAIL_1]"
    assert completion.choices[0].fields["thinking_blocks"] == [{"signature": "bo@x.org"}]


def test_a_prompt_to_continue_is_read_where_experts_read_it() -> None:
    reader, _ = guard()
    request = ChatRequest(
        (Message("user", "I am bo@x.org"),), task="complete", raw=("I am bo@x.org",)
    )
    seen = read_request(request, reader.reader.read)
    assert (seen.messages[0].text, seen.raw) == ("I am [EMAIL_1]", ("I am [EMAIL_1]",))
    assert read_request(seen, reader.reader.read) is seen


def test_a_thought_is_whole_before_its_signature() -> None:
    reader, _ = guard()
    signed = Delta(fields={"thinking_blocks": [{"thinking": "I know", "signature": "s"}]})
    events = [out for event in (Delta(reasoning="I know"), signed) for out in reader.write(event)]
    assert events == [Delta(reasoning="I "), Delta(reasoning="know"), signed]


def test_a_guard_that_fails_hands_over_all_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, _ = guard()
    before: list[Event] = [Delta("one @y", 1), Delta("mail bo@x")]
    events = [out for event in before for out in reader.write(event)]

    def fail(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(Eye, "join", fail)
    with pytest.raises(FailedError) as failure:
        reader.write(Delta(".org and more", reasoning="hm", fields={"a": 1}))
    collector = Collector()
    for event in [*events, *failure.value.unread]:
        collector.add(event)
    first, second = collector.completion().choices
    assert (first.text, first.reasoning, first.fields) == ("mail bo@x.org and more", "hm", {"a": 1})
    assert second.text == "one @y"
