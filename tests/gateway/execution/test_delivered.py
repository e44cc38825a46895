from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.cards import ExpertCard
from experts.errors import ExpertDivergedError
from experts.messages import ChatRequest, Delta, Event, Finish, Message, Usage, collect
from gateway.execution.delivered import Continuation, Delivered, Splice

TEXT = "The capital of Peru is Lima, on the coast."
PREFILL = ExpertCard("p", prefill=True)


def delivered(*events: Event) -> Delivered:
    sent = Delivered()
    for event in events:
        sent.add(event)
    return sent


def spliced(sent: Delivered, events: Iterable[Event]) -> list[Event]:
    splice = Splice("e", sent)
    return [new for event in events for new in splice.take(event)]


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", "Capital of Peru?"),), **fields)


def pieces(text: str, cuts: Sequence[int]) -> list[Event]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [Delta(text[a:b]) for a, b in pairwise(edges)]


CUTS = st.lists(st.integers(0, len(TEXT)), max_size=8)


@given(st.integers(0, len(TEXT)), CUTS)
def test_an_answer_begun_again_adds_exactly_what_is_missing(sent: int, cuts: list[int]) -> None:
    new = spliced(delivered(Delta(TEXT[:sent])), [*pieces(TEXT, cuts), Finish("stop")])
    assert TEXT[:sent] + text_of(new) == TEXT
    assert new[-1] == Finish("stop")


@given(st.integers(1, len(TEXT)), st.integers(0, len(TEXT) - 1), CUTS)
def test_another_answer_is_never_spliced(sent: int, at: int, cuts: list[int]) -> None:
    other = TEXT[:at] + "#" + TEXT[at + 1 :]
    take = [*pieces(other, cuts), Finish("stop")]
    if at < sent:
        with pytest.raises(ExpertDivergedError, match="other words"):
            spliced(delivered(Delta(TEXT[:sent])), take)
    else:
        assert text_of(spliced(delivered(Delta(TEXT[:sent])), take)) == other[sent:]


def test_an_answer_that_ends_too_early_is_another_one() -> None:
    with pytest.raises(ExpertDivergedError, match="shorter"):
        spliced(delivered(Delta("The capital")), [Delta("The"), Finish("stop")])


def call(index: int, name: str = "", arguments: str = "", **more: str) -> Delta:
    function = {"name": name, "arguments": arguments}
    piece = {"index": index, **more, "function": {k: v for k, v in function.items() if v}}
    return Delta(tool_calls=(piece,))


def test_a_tool_call_that_begins_alike_goes_on_under_the_id_that_was_sent() -> None:
    sent = [call(0, "find", id="old"), call(0, arguments='{"ci')]
    again: list[Event] = [
        call(0, "find", '{"city": "Li', id="new"),
        call(0, arguments='ma"}'),
        call(1, "more", "{}", id="second"),
        Finish("tool_calls"),
    ]
    new = spliced(delivered(*sent), again)

    async def events() -> Any:
        for event in [*sent, *new]:
            yield event

    (choice,) = anyio.run(lambda: collect(events())).choices
    assert [(c["id"], c["function"]["arguments"]) for c in choice.tool_calls] == [
        ("old", '{"city": "Lima"}'),
        ("second", "{}"),
    ]


def test_a_tool_call_with_other_arguments_is_another_answer() -> None:
    sent = delivered(call(0, "find", '{"city": "Li'))
    with pytest.raises(ExpertDivergedError):
        spliced(sent, [call(0, "find", '{"city": "Quito"}')])


def test_thought_is_not_compared_and_not_sent_twice() -> None:
    sent = delivered(Delta(reasoning="Hm, Peru"), Delta("The "))
    again: list[Event] = [Delta(reasoning="Well"), Delta("The "), Delta("end"), Finish("stop")]
    assert spliced(sent, again) == [Delta("end"), Finish("stop")]


def test_a_choice_that_was_finished_stays_as_it_is() -> None:
    sent = delivered(Delta("a"), Finish("stop"), Delta("b", 1))
    again: list[Event] = [Delta("x"), Finish("stop"), Delta("bc", 1), Finish("stop", 1)]
    assert spliced(sent, again) == [Delta("c", 1), Finish("stop", 1)]


def test_after_the_splice_pieces_pass_as_they_are() -> None:
    piece = Delta("b", logprobs={"content": [1]}, fields={"x": 1})
    assert spliced(delivered(Delta("a")), [Delta("a"), piece]) == [piece]


@pytest.mark.parametrize(
    ("sent", "request_", "card", "possible"),
    [
        ([Delta("a")], asked(), PREFILL, True),
        ([Delta("a")], asked(), ExpertCard("e"), False),
        ([Delta(reasoning="hm")], asked(), PREFILL, False),
        ([Delta("a"), call(0, "f")], asked(), PREFILL, False),
        ([Delta("a"), Finish("stop")], asked(), PREFILL, False),
        ([Delta("a"), Delta("b", 1)], asked(), PREFILL, False),
        ([Delta("a")], asked(params={"n": 2}), PREFILL, False),
        ([Delta("a")], asked(params={"response_format": {"type": "json_object"}}), PREFILL, False),
        ([Delta("a")], asked(task="complete"), PREFILL, False),
        ([], asked(), PREFILL, False),
    ],
    ids=[
        "text",
        "no prefill",
        "only thought",
        "tool call",
        "finished",
        "two choices",
        "n is 2",
        "schema",
        "a prompt",
        "nothing",
    ],
)
def test_who_can_go_on_with_what(
    sent: list[Event], request_: ChatRequest, card: ExpertCard, possible: bool
) -> None:
    assert delivered(*sent).continued_by(card, request_) is possible


def test_a_continuation_asks_for_the_rest_within_the_limit() -> None:
    request = asked(max_tokens=20, params={"max_completion_tokens": 20, "temperature": 0})
    onward = delivered(Delta("x" * 40)).continuation(PREFILL, request)
    assert onward.messages[-1] == Message("assistant", "x" * 40)
    assert onward.max_tokens == 10
    assert dict(onward.params) == {
        "temperature": 0,
        "max_completion_tokens": 10,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


@given(st.integers(0, len(TEXT)), CUTS, st.booleans())
def test_a_continuation_that_repeats_the_text_is_cut(
    sent: int, cuts: list[int], repeats: bool
) -> None:
    so_far = Continuation(delivered(Delta(TEXT[:sent])))
    answer = TEXT if repeats and sent >= 16 else TEXT[sent:]
    new = [out for event in [*pieces(answer, cuts), Finish("stop")] for out in so_far.take(event)]
    assert TEXT[:sent] + text_of(new) == TEXT


def test_usage_of_the_whole_counts_the_text_before_as_written() -> None:
    whole = delivered(Delta("x" * 40)).usage_of_whole()
    assert whole(Usage(input=30, output=5)) == Usage(input=20, output=15, estimated=True)
    assert whole(Usage(input=4, cache_read=26, output=5)) == Usage(
        cache_read=20, output=15, estimated=True
    )


def test_what_cannot_be_compared_cannot_be_resumed() -> None:
    assert delivered(Delta("a")).resumable
    assert not delivered(Delta("a", fields={"thinking_blocks": [1]})).resumable
    assert not delivered(Delta(opaque=({"type": "x"},))).resumable


@pytest.mark.parametrize(
    ("sent", "anew"),
    [
        ([call(0, "f", '{"a')], [Delta("It is 7."), call(0, "f", '{"a": 1}')]),
        ([Delta("Let me "), call(0, "f", "{")], [Delta("Let me see."), call(0, "f", "{}")]),
        ([Delta("Let me ")], [call(0, "f", "{}")]),
        ([call(0, "f", "{}"), call(1, "f", "{")], [call(0, "f", "{}"), call(2, "f", "{}")]),
    ],
    ids=["text for a call", "more text", "a call for text", "another call"],
)
def test_nothing_of_another_answer_is_passed_on_where_a_call_was_begun(
    sent: list[Event], anew: list[Event]
) -> None:
    splice = Splice("e", delivered(*sent))
    told: list[Event] = []

    def take() -> None:
        for event in anew:
            told.extend(splice.take(event))

    with pytest.raises(ExpertDivergedError):
        take()
    assert told == []


def test_text_and_calls_that_are_the_same_go_on_behind_what_was_sent() -> None:
    sent = delivered(Delta("Let me "), call(0, "f", '{"a'))
    anew = [Delta("Let "), Delta("me "), call(0, "f", '{"a": '), call(0, arguments="1}")]
    new = spliced(sent, anew)
    assert [event.tool_calls[0]["function"] for event in new if isinstance(event, Delta)] == [
        {"arguments": '": '},
        {"arguments": "1}"},
    ]


def custom(index: int, name: str = "", written: str = "", **more: str) -> Delta:
    said = {"name": name, "input": written}
    return Delta(tool_calls=({"index": index, **more, "custom": said},))


def test_a_call_of_a_custom_tool_that_begins_alike_goes_on_too() -> None:
    sent = [custom(0, "shell", id="old", type="custom"), custom(0, written="ls -")]
    again: list[Event] = [custom(0, "shell", "ls -la", id="new", type="custom"), Finish("stop")]
    new = spliced(delivered(*sent), again)
    assert new == [Delta(tool_calls=({"index": 0, "custom": {"input": "la"}},)), Finish("stop")]
    with pytest.raises(ExpertDivergedError):
        spliced(delivered(*sent), [custom(0, "shell", "rm -r", id="new", type="custom")])


def test_no_thought_is_signed_that_another_one_was_sent_for() -> None:
    sent = delivered(Delta(reasoning="Hm, Pe"))
    signed = {"type": "thinking", "thinking": "Well.", "signature": "s"}
    fields = {"thinking_blocks": [signed]}
    again: list[Event] = [
        Delta(reasoning="Well."), Delta(fields=fields), Delta("Lima"), Finish("stop")
    ]  # fmt: skip
    assert spliced(sent, again) == [Delta("Lima"), Finish("stop")]
    refused = Delta(fields={**fields, "refusal": "no"})
    assert spliced(sent, [refused]) == [Delta(fields={"refusal": "no"})]


def test_what_one_wire_alone_can_say_is_not_lost_behind_a_thought() -> None:
    searched = Delta(opaque=({"type": "content_block_start", "content_block": {"type": "x"}},))
    sent = delivered(Delta(reasoning="Hm"), Delta("Let "))
    again = [Delta(reasoning="Hm"), Delta("Let me"), searched, Delta(" see")]
    assert spliced(sent, again) == [Delta("me"), searched, Delta(" see")]


def test_a_call_within_a_continuation_that_repeats_the_text_is_not_lost() -> None:
    so_far = Continuation(delivered(Delta(TEXT[:20])))
    (piece,) = call(0, "find", "{}", id="c").tool_calls
    begun = Delta(TEXT[:5], tool_calls=(piece,))
    events: list[Event] = [begun, Delta(TEXT[5:]), Finish("tool_calls")]
    new = [out for event in events for out in so_far.take(event)]
    assert text_of(new) == TEXT[20:]
    assert [event.tool_calls for event in new if isinstance(event, Delta) and event.tool_calls] == [
        (piece,)
    ]


@pytest.mark.parametrize("choices", [1, 2])
def test_an_answer_is_complete_when_every_choice_that_was_asked_for_is(choices: int) -> None:
    sent = delivered(Delta("a"), Finish("stop"))
    assert sent.complete(choices) is (choices == 1)
    assert not delivered().complete(choices)
    assert delivered(Delta("a"), Finish("stop"), Delta("b", 1), Finish("stop", 1)).complete(choices)


def test_nothing_is_told_of_what_was_sent_already_not_even_beside_the_text() -> None:
    known: dict[str, Any] = {"content": [{"token": "a", "logprob": -0.1}]}
    again = [
        Delta("a", logprobs=known),
        Delta(logprobs=known),
        Delta(opaque=({"type": "x"},)),
        Delta(fields={"x": 1}),
        Delta("bc", logprobs=known),
    ]
    assert spliced(delivered(Delta("ab")), again) == [Delta("c")]


def test_a_call_that_is_new_goes_on_beside_the_rest_of_one_that_is_not() -> None:
    both = (*call(0, "f", '{"a": 1}').tool_calls, *call(1, "g", "{}", id="second").tool_calls)
    (new,) = spliced(delivered(call(0, "f", '{"a')), [Delta(tool_calls=both)])
    assert isinstance(new, Delta)
    assert new.tool_calls == ({"index": 0, "function": {"arguments": '": 1}'}}, both[1])


def test_a_continuation_that_only_begins_like_the_text_is_told_whole() -> None:
    so_far = Continuation(delivered(Delta(TEXT)))
    said: list[Event] = [Delta(TEXT[:5]), Finish("stop")]
    assert [new for event in said for new in so_far.take(event)] == said
