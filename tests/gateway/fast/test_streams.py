"""The provider's chunks go through as they came, but for the name and what clients count on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from experts.messages import Delta, Usage
from experts.wire.openai_reading import ChatReader
from gateway.api.front import Envelope
from gateway.fast.streams import RawStream, seen_in, text_of

FIELDS = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "theirs"}
ENVELOPE = Envelope("dec-1", "ours")


def event(delta: dict[str, Any] | None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return b"data: " + orjson.dumps({**FIELDS, "choices": [choice], **more}) + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
WORD = event({"content": "word"})
STOP = event(None, "stop")
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
TOKENS = b"data: " + orjson.dumps({**FIELDS, "choices": [], "usage": USAGE}) + b"\n\n"
DONE = b"data: [DONE]\n\n"


def stream(*, include_usage: bool = False, most: int = 10_000) -> RawStream:
    return RawStream(ENVELOPE, ChatReader, most, include_usage=include_usage)


def named(raw: bytes) -> bytes:
    return raw.replace(b'"theirs"', b'"ours"')


def test_bytes_are_the_providers_but_for_the_model() -> None:
    spaced = WORD.replace(b'"model":"theirs"', b'"model": "theirs"').replace(b'"id"', b'  "id"')
    passed = stream().feed(ROLE + WORD + spaced + STOP)
    assert passed == named(ROLE + WORD) + spaced.replace(
        b'"model": "theirs"', b'"model":"ours"'
    ) + (named(STOP))


def test_nothing_goes_out_before_the_first_token() -> None:
    answer = stream()
    assert answer.feed(ROLE) == b""
    assert not answer.begun
    assert answer.feed(WORD) == named(ROLE + WORD)
    assert answer.begun


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_it_is_the_same_however_it_is_cut(size: int) -> None:
    whole = ROLE + WORD * 3 + STOP + TOKENS + DONE
    answer = stream(include_usage=True)
    passed = b"".join(answer.feed(whole[at : at + size]) for at in range(0, len(whole), size))
    assert passed == stream(include_usage=True).feed(whole)
    assert (answer.done, answer.finished, answer.finish_reason) == (True, True, "stop")
    assert answer.usage == Usage(input=3, output=1)
    assert text_of(answer) == "wordwordword"


@pytest.mark.parametrize("texts", [["wo", "rd"], ["wo", "word", "word"]], ids=["new", "all"])
def test_messages_in_place_of_deltas_become_deltas(texts: list[str]) -> None:
    answer = stream()
    passed = [answer.feed(ROLE.replace(b'"delta"', b'"message"'))]
    passed += [answer.feed(event({"content": t}).replace(b'"delta"', b'"message"')) for t in texts]
    chunks = [orjson.loads(line[6:]) for line in b"".join(passed).split(b"\n\n") if line]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta["content"] for delta in deltas) == "word"
    assert text_of(answer) == "word"
    assert not any("message" in chunk["choices"][0] for chunk in chunks)


@pytest.mark.parametrize(
    "first",
    [
        ROLE,
        event({}),
        event({"role": "assistant"}).replace(b'"delta"', b'"message"'),
        event({"role": "assistant", "content": None}).replace(b'"delta"', b'"message"'),
    ],
    ids=["a delta", "an empty delta", "a message", "a message without a text"],
)
def test_messages_behind_a_beginning_without_a_text_become_deltas_too(first: bytes) -> None:
    answer = stream()
    words = event({"content": "word"}) + event({"content": " more"})
    passed = answer.feed(first + words.replace(b'"delta"', b'"message"') + STOP)
    assert text_of(answer) == "word more"
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks_of(passed)]
    assert "".join(said) == "word more"


def test_a_message_behind_deltas_says_nothing_new() -> None:
    answer = stream()
    answer.feed(ROLE + WORD + event({"content": "word"}, "stop").replace(b'"delta"', b'"message"'))
    assert (text_of(answer), answer.finish_reason) == ("word", "stop")


def test_a_piece_of_the_answer_that_broke_off_is_a_failure() -> None:
    answer = stream()
    answer.feed(ROLE + WORD + WORD[:-30] + b"\n\n" + WORD)
    assert "piece of the answer" in str(answer.failure)
    assert text_of(answer) == "word"


def test_usage_is_for_those_who_want_it_and_null_until_the_end() -> None:
    wanted, unwanted = stream(include_usage=True), stream()
    null = event({"content": "word"}, usage=None)
    for feed in (wanted, unwanted):
        chunks = [
            orjson.loads(line[6:]) for line in feed.feed(ROLE + null + STOP).split(b"\n\n") if line
        ]
        assert {("usage" in chunk) for chunk in chunks} == {feed is wanted}
        feed.feed(TOKENS)
    ending = wanted.ending(Usage(input=3, output=1), 0.5)
    last = orjson.loads(ending.split(b"\n\n")[0][6:])
    assert last["usage"]["cost_usd"] == 0.5
    assert last["usage"]["total_tokens"] == 4
    assert last["id"] == "c-1"
    assert last["model"] == "ours"
    assert unwanted.ending(Usage(), None) == DONE


def test_usage_in_every_chunk_is_taken_out_and_the_last_counts() -> None:
    growing = event({"content": "word"}, usage={"prompt_tokens": 3, "completion_tokens": 9})
    answer = stream()
    assert b"usage" not in answer.feed(growing + STOP + TOKENS)
    assert answer.usage == Usage(input=3, output=1)


def test_broken_chunks_are_passed_over_and_counted() -> None:
    broken = b'data: {"choices": [\n\n' + b'data: {"no": "choices"}\n\n' + b"data: 7\n\n"
    other = event({"content": "x"}).replace(b'"index":0', b'"index":3')
    answer = stream()
    assert answer.feed(ROLE + broken + other + WORD) == named(ROLE + WORD)
    assert answer.malformed == 4
    assert seen_in(answer) == ["word", ""]


def test_choices_that_come_together_are_told_apart() -> None:
    said = [{"index": at, "delta": {"content": text}} for at, text in ((1, "no"), (0, "Hi"))]
    both = b"data: " + orjson.dumps({**FIELDS, "choices": said}) + b"\n\n"
    again = both.replace(b'"index":1', b'"index":0').replace(b"no", b"! ")
    answer = stream()
    passed = answer.feed(ROLE + WORD + both + both + again + STOP)
    chunks = [orjson.loads(line[6:]) for line in passed.split(b"\n\n") if line]
    assert [len(chunk["choices"]) for chunk in chunks] == [1] * 7
    assert {chunk["choices"][0]["index"] for chunk in chunks} == {0}
    assert text_of(answer) == "wordHiHi! Hi"
    assert (answer.malformed, answer.finished, answer.failure) == (2, True, None)


def test_what_follows_the_finish_is_no_part_of_the_answer() -> None:
    answer = stream()
    assert answer.feed(ROLE + WORD + STOP + WORD) == named(ROLE + WORD + STOP)
    assert answer.close() == b""
    assert answer.failure is None


def test_what_follows_the_finish_in_the_form_of_all_before_is_no_part_of_it_either() -> None:
    answer = stream()
    answer.feed(ROLE + WORD + WORD)
    assert answer.feed(STOP) == named(STOP)
    assert answer.feed(WORD) == b""
    assert text_of(answer) == "wordword"


def test_a_comment_that_is_cut_before_what_looks_like_a_chunk_is_a_comment() -> None:
    answer = stream()
    answer.feed(ROLE + WORD + WORD + b": ")
    assert answer.feed(WORD) == b""
    assert answer.feed(WORD) == named(WORD)


@pytest.mark.parametrize(
    "silent",
    [
        b"data: " + orjson.dumps({**FIELDS, "choices": []}) + b"\n\n",
        event({}),
        event({"content": "", "reasoning": None}),
        event({"content": ""}).replace(b'"index":0', b'"index":0,"native_reason":null'),
    ],
    ids=["no choice", "nothing", "empty", "empty, with a field of its own"],
)
def test_what_says_nothing_is_no_sign_of_life(silent: bytes) -> None:
    answer = stream()
    answer.feed(ROLE)
    answer.feed(silent)
    assert (answer.begun, answer.spoke) == (False, False)
    answer.feed(WORD)
    assert (answer.begun, answer.spoke) == (True, True)
    answer.spoke = False
    answer.feed(silent)
    assert not answer.spoke


def test_a_usage_that_nobody_asked_for_is_cut_out_of_bytes_that_stay_as_they_are() -> None:
    spaced = event({"content": "a"}, usage=None).replace(b'"delta":', b'"delta" : ')
    passed = stream().feed(ROLE + spaced)
    assert passed == named(ROLE + spaced.replace(b',"usage":null', b""))
    within = event({"content": "a"}, extra={"a": 1, "usage": None}, usage=None)
    (_, chunk) = chunks_of(stream().feed(ROLE + within))
    assert chunk["extra"] == {"a": 1, "usage": None}
    assert "usage" not in chunk


def test_nothing_that_follows_ends_what_done_has_ended() -> None:
    answer = stream()
    assert answer.feed(ROLE + WORD + DONE + WORD + STOP) == named(ROLE + WORD)
    assert (answer.done, answer.finished, answer.close()) == (True, False, b"")
    assert "ended before the answer did" in str(answer.failure)


@pytest.mark.parametrize(
    "late",
    [WORD[:-20] + b"\n\n", b'data: {"error": {"message": "out of memory"}}\n\n'],
    ids=["half a chunk", "an error"],
)
def test_nothing_that_follows_the_finish_fails_the_answer(late: bytes) -> None:
    answer = stream()
    assert answer.feed(ROLE + WORD + STOP + late) == named(ROLE + WORD + STOP)
    answer.feed(TOKENS + DONE)
    assert (answer.failure, answer.usage) == (None, Usage(input=3, output=1))


def test_a_role_in_every_chunk_is_told_once() -> None:
    word = event({"role": "assistant", "content": "word"})
    chunks = chunks_of(stream().feed(word * 3))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "word"},
        {"content": "word"},
        {"content": "word"},
    ]


def test_usage_before_the_finish_is_counted_and_a_report_that_is_none_takes_nothing_back() -> None:
    answer = stream()
    none = TOKENS.replace(orjson.dumps(USAGE), b'{"prompt_tokens":-1}')
    assert answer.feed(ROLE + WORD + TOKENS + none + STOP) == named(ROLE + WORD + STOP)
    assert answer.usage == Usage(input=3, output=1)


def test_what_comes_with_the_usage_is_told_with_it() -> None:
    answer = stream(include_usage=True)
    answer.feed(ROLE + WORD + STOP + TOKENS.replace(b'"id"', b'"service_tier":"flex","id"'))
    assert answer.usage is not None
    last, _ = answer.ending(answer.usage, None).split(b"\n\n", 1)
    assert orjson.loads(last.removeprefix(b"data: "))["service_tier"] == "flex"


def test_a_chunk_on_several_lines_goes_on_as_one() -> None:
    lines = WORD.replace(b',"choices"', b'\ndata: ,"choices"')
    assert stream().feed(ROLE + lines) == named(ROLE + WORD.replace(b',"choices"', b' ,"choices"'))


def test_an_error_behind_tokens_lets_the_tokens_through_first() -> None:
    answer = stream()
    error = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    assert answer.feed(ROLE + WORD + error + WORD) == named(ROLE + WORD)
    assert "out of memory" in str(answer.failure)
    assert list(answer.events()) == [Delta("word")]


def test_a_stream_that_ends_early_or_never_ends_an_event_has_failed() -> None:
    cut = stream()
    cut.feed(ROLE + WORD)
    cut.close()
    assert "ended before the answer did" in str(cut.failure)
    endless = stream(most=100)
    endless.feed(b"data: " + b"x" * 200)
    assert "longer than 100 bytes" in str(endless.failure)


def test_clients_get_a_role_and_an_id_where_the_provider_sent_none() -> None:
    bare = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    first, second = [orjson.loads(line[6:]) for line in stream().feed(bare).split(b"\n\n") if line]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert second["choices"][0]["delta"] == {"content": "Hi"}
    assert first["id"] == second["id"] == "chatcmpl-dec-1"
    assert second["model"] == "ours"
    assert second["object"] == "chat.completion.chunk"


def test_a_key_called_model_elsewhere_is_left_alone() -> None:
    tricky = event({"content": 'say "model":"theirs"'}, extra={"model": "theirs"})
    (chunk,) = [
        orjson.loads(line[6:]) for line in stream().feed(ROLE + tricky).split(b"\n\n")[1:] if line
    ]
    assert chunk["model"] == "ours"
    assert chunk["extra"] == {"model": "theirs"}
    assert chunk["choices"][0]["delta"]["content"] == 'say "model":"theirs"'


def test_another_writer_goes_on_in_the_same_words() -> None:
    answer = stream(include_usage=True)
    answer.feed(ROLE + WORD)
    (piece,) = answer.writer().write(Delta(" more"))
    chunk = orjson.loads(piece[6:])
    assert (chunk["id"], chunk["model"], chunk["created"]) == ("c-1", "ours", 7)
    assert chunk["choices"][0]["delta"] == {"content": " more"}


def test_what_clients_would_add_up_wrongly_is_mended() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    answer = stream()
    passed = answer.feed(
        b'data: {"id":"","object":"","created":0,"model":"","choices":[]}\n\n'
        + ROLE
        + event({"role": "assistant", "content": thought})
        + event({"role": "assistant", "content": [{"type": "text", "text": "word"}]})
        + WORD
    )
    first, role, *rest = [
        orjson.loads(line.removeprefix(b"data: ")) for line in passed.split(b"\n\n") if line
    ]
    assert (first["object"], first["model"]) == ("chat.completion.chunk", "ours")
    assert first["id"]
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert [piece["choices"][0]["delta"] for piece in rest] == [
        {"content": None, "reasoning_content": "hm"},
        {"content": "word"},
        {"content": "word"},
    ]
    assert passed.endswith(named(WORD))


def test_half_a_character_costs_that_character_alone() -> None:
    answer = stream()
    passed = answer.feed(ROLE + event({"content": "hi X"}).replace(b"X", rb"\ud83d") + STOP + DONE)
    assert b"".join([passed]).count(b"hi \\ufffd") == 1
    assert (answer.malformed, answer.finished) == (0, True)


def test_a_long_answer_is_kept_as_its_text_alone() -> None:
    answer = stream(most=100_000)
    answer.feed(ROLE)
    for number in range(10_000):
        answer.feed(event({"content": f" {number}"}))
    text = "".join(f" {number}" for number in range(10_000))
    kept = [*answer._kept, *answer._texts]
    assert sum(len(piece) for piece in kept) < 1.2 * len(text)
    assert len(kept) < 10_000 / 256 + 256
    assert text_of(answer) == text
    answer.feed(event({"content": " end"}))
    assert text_of(answer) == text_of(answer) == text + " end"


def test_what_is_more_than_text_is_kept_in_its_place() -> None:
    answer = stream()
    logprobs = {"content": [{"token": "c", "logprob": -0.1}]}
    said = {"index": 0, "delta": {"content": "c"}, "finish_reason": None, "logprobs": logprobs}
    with_logprobs = b"data: " + orjson.dumps({**FIELDS, "choices": [said]}) + b"\n\n"
    answer.feed(ROLE + event({"content": "a"}) + event({"content": "b"}) + with_logprobs)
    answer.feed(event({"content": "d", "reasoning": "thought"}) + event({"content": "e"}))
    deltas = [each for each in answer.events() if isinstance(each, Delta)]
    assert [delta.text for delta in deltas] == ["ab", "c", "d", "e"]
    assert deltas[1].logprobs == logprobs
    assert deltas[2].reasoning == "thought"


def chunks_of(passed: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line[6:]) for line in passed.split(b"\n\n") if line]


@pytest.mark.parametrize("odd", [True, 1.5, [[]], {"a": 1}])
def test_only_a_word_ends_an_answer(odd: Any) -> None:
    answer = stream()
    answer.feed(ROLE + WORD)
    passed = answer.feed(event(None, odd) + event({"content": " more"}, odd) + WORD)
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks_of(passed)} == {None}
    assert (text_of(answer), answer.finished, answer.failure) == ("word moreword", False, None)


@pytest.mark.parametrize("odd", [5, True, {"a": 1}])
def test_a_content_that_is_no_text_says_nothing_and_takes_nothing_with_it(odd: Any) -> None:
    answer = stream()
    (chunk,) = chunks_of(answer.feed(ROLE + WORD + event({"content": odd}, "stop")))[2:]
    assert chunk["choices"][0]["delta"] == {"content": None}
    assert (chunk["choices"][0]["finish_reason"], answer.finish_reason) == ("stop", "stop")


@pytest.mark.parametrize("odd", [None, 5, True, "", [], {"a": 1}])
def test_what_clients_count_on_is_put_in_the_place_of_what_is_none(odd: Any) -> None:
    heads = [WORD.replace(orjson.dumps(FIELDS)[:-1], b"%b" % _head(name, odd)) for name in FIELDS]
    passed = stream().feed(ROLE + b"".join(heads) + STOP).split(b"\n\n")
    for chunk in map(orjson.loads, (line.removeprefix(b"data: ") for line in passed if line)):
        assert isinstance(chunk["id"], str)
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", "ours")
        assert type(chunk["created"]) is int


def _head(name: str, odd: Any) -> bytes:
    return orjson.dumps({**FIELDS, name: odd})[:-1]


@pytest.mark.parametrize("falsy", [None, {}, [], "", 0, False])
def test_an_error_that_is_none_is_told_to_nobody(falsy: Any) -> None:
    assert b"error" not in stream().feed(ROLE + event({"content": "word"}, error=falsy) + STOP)


def test_nothing_is_noted_of_an_end_that_is_not_passed_on() -> None:
    answer = stream()
    answer.feed(ROLE + WORD + STOP.replace(b'"index":0', b'"index":""'))
    assert not answer.finished
    assert b"stop" in answer.feed(STOP)


@pytest.mark.parametrize("size", [1, 100, 500])
def test_an_answer_longer_than_any_is_ended_and_a_long_one_is_not(size: int) -> None:
    most, piece = 5_000, event({"content": "x" * size})
    answer = stream(most=most)
    answer.feed(ROLE)
    for _ in range(most // size):
        answer.feed(piece)
    assert answer.failure is None
    for _ in range(2 * most // len(piece) + 2):
        answer.feed(piece * 2)
    assert answer.failure is not None
    assert len(text_of(answer)) < 3 * most


def test_pieces_of_calls_do_not_go_on_for_ever_either() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "x" * 400}}
    answer = stream(most=5_000)
    answer.feed(ROLE)
    for _ in range(500):
        answer.feed(event({"tool_calls": [call]}))
    assert answer.failure is not None


def test_what_is_held_back_before_the_first_token_does_not_grow_for_ever() -> None:
    answer = stream(most=5_000)
    for _ in range(20):
        answer.feed(ROLE)
    assert answer.failure is None
    for _ in range(200):
        answer.feed(ROLE)
    assert (answer.begun, answer.failure is None) == (False, False)
