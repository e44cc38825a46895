"""Several answers at once with log probabilities and fields nobody knows: a stream of them, however
it is mixed and cut, says the same as the whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from experts.messages import Collector, Usage
from experts.wire.openai import ChatDialect
from experts.wire.reading import StreamReader, whole_answer
from gateway.api.chat import CHAT
from gateway.api.completions import COMPLETIONS
from gateway.api.front import Front
from tests.contracts.test_wires import ENVELOPE, KEY
from tests.contracts.wire_fronts import events_of

_TEXTS = st.text(max_size=8)
_TOKENS = st.builds(
    lambda text, logprob: {
        "token": text,
        "logprob": logprob,
        "bytes": list(text.encode()),
        "top_logprobs": [{"token": text, "logprob": logprob, "bytes": None}],
    },
    st.text(min_size=1, max_size=5),
    st.floats(-9, 0),
)
# Not 0: tokens that a provider does not count are counted by us.
_COUNTS = st.integers(1, 1000)


@dataclass(frozen=True)
class Answer:
    """One of them: pieces of text with the tokens of each, and what else is said of it."""

    pieces: tuple[tuple[str, tuple[dict[str, Any], ...]], ...]
    finish: str
    mood: str
    places: tuple[int, ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def tokens(self) -> list[dict[str, Any]]:
        return [token for _, tokens in self.pieces for token in tokens]


_PIECES = st.tuples(_TEXTS, st.lists(_TOKENS, max_size=2).map(tuple))
_ANSWERS = st.builds(
    Answer,
    st.lists(_PIECES, min_size=1, max_size=4).map(tuple),
    st.sampled_from(["stop", "length", "content_filter"]),
    st.text(min_size=1, max_size=5),
    st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
)


def logprobs(tokens: Any) -> dict[str, Any] | None:
    return {"content": list(tokens), "refusal": None} if tokens else None


def whole_of(answers: list[Answer], usage: dict[str, Any]) -> bytes:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "mood": answer.mood},
            "logprobs": logprobs(answer.tokens),
            "finish_reason": answer.finish,
            "places": list(answer.places),
        }
        for index, answer in enumerate(answers)
    ]
    return json.dumps({"choices": choices, "usage": usage, "tier": "flex"}).encode()


def chunks_of(index: int, answer: Answer) -> list[dict[str, Any]]:
    choices: list[dict[str, Any]] = [
        {"delta": {"content": text}, "logprobs": logprobs(tokens)} for text, tokens in answer.pieces
    ]
    choices.append({"delta": {"mood": answer.mood}, "places": list(answer.places[:1])})
    choices.append({"delta": {}, "finish_reason": answer.finish, "places": [*answer.places[1:]]})
    return [{"tier": "flex", "choices": [{"index": index, **choice}]} for choice in choices]


@st.composite
def mixed(draw: st.DrawFn, answers: list[Answer]) -> list[dict[str, Any]]:
    """Chunks of all answers, each answer's in their order."""
    waiting = [chunks_of(index, answer) for index, answer in enumerate(answers)]
    found: list[dict[str, Any]] = []
    while any(waiting):
        place = draw(st.sampled_from([n for n, chunks in enumerate(waiting) if chunks]))
        found.append(waiting[place].pop(0))
    return found


def through(front: Front, body: dict[str, Any], content: bytes, size: int | None) -> bytes:
    """What the client gets of the provider's bytes; of a stream, in packets of `size`."""
    ask = front.parse(json.dumps({**body, "stream": size is not None}).encode(), {}, KEY)
    read = ChatDialect().reader(ask.request)
    if size is None:
        collector = Collector()
        for event in whole_answer("x", read, content, ask.request.choices):
            collector.add(event)
        usage = collector.usage or Usage()
        return front.whole(ask, ENVELOPE, collector.completion(), usage)
    reader = StreamReader("x", read, ask.request.choices)
    events = []
    for start in range(0, len(content), size):
        events += reader.feed(content[start : start + size])
    events += reader.end()
    writer = front.writer(ask, ENVELOPE)
    usage = next((event for event in events if isinstance(event, Usage)), Usage())
    pieces = [piece for event in events for piece in writer.write(event)]
    return b"".join([*pieces, *writer.end(usage, None)])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(_ANSWERS, min_size=1, max_size=3), _COUNTS, st.integers(1, 200))
def test_several_answers_are_the_same_streamed_and_whole(
    data: st.DataObject, answers: list[Answer], count: int, size: int
) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count}
    usage["odd"] = 7
    chunks = [*data.draw(mixed(answers)), {"choices": [], "usage": usage}]
    streamed = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    body = {"model": "x", "n": len(answers), "stream_options": {"include_usage": True}}
    asked = {**body, "messages": [{"role": "user", "content": "Hi"}], "logprobs": True}

    whole: dict[str, Any] = json.loads(through(CHAT, asked, whole_of(answers, usage), None))
    *lines, _ = events_of(through(CHAT, asked, streamed, size))
    state: Any = ChatCompletionStreamState()
    for line in lines:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(line))
    found: dict[str, Any] = ChatCompletion.model_validate(
        state.current_completion_snapshot.model_dump()
    ).to_dict()
    pieces = [choice for line in lines for choice in json.loads(line)["choices"]]
    for said in (whole, found):
        ChatCompletion.model_validate(said)
        assert [heard(choice) for choice in said["choices"]] == [told(answer) for answer in answers]
        assert (said["usage"]["total_tokens"], said["usage"]["odd"]) == (2 * count, 7)
    places = [(piece["index"], piece["places"]) for piece in pieces if piece.get("places")]
    assert sorted(places) == [(n, list(answer.places)) for n, answer in enumerate(answers)]
    assert [choice["places"] for choice in whole["choices"]] == [list(a.places) for a in answers]
    assert whole["tier"] == json.loads(lines[-1])["tier"] == "flex"


def told(answer: Answer) -> tuple[Any, ...]:
    return answer.text, answer.tokens, answer.finish, answer.mood


def heard(choice: dict[str, Any]) -> tuple[Any, ...]:
    tokens = (choice.get("logprobs") or {}).get("content") or []
    message = choice["message"]
    return message["content"], tokens, choice["finish_reason"], message["mood"]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(_ANSWERS, min_size=1, max_size=3), st.integers(1, 200))
def test_several_answers_are_the_same_to_who_knows_texts_alone(
    data: st.DataObject, answers: list[Answer], size: int
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    streamed = b"".join(
        b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in data.draw(mixed(answers))
    )
    body = {"model": "x", "n": len(answers), "prompt": "Hi", "logprobs": 1}
    whole = json.loads(through(COMPLETIONS, body, whole_of(answers, usage), None))
    Completion.model_validate(whole)
    texts = [""] * len(answers)
    tokens: list[list[str]] = [[] for _ in answers]
    for line in events_of(through(COMPLETIONS, body, streamed, size)):
        for choice in [] if line == "[DONE]" else json.loads(line)["choices"]:
            texts[choice["index"]] += choice["text"]
            tokens[choice["index"]] += (choice["logprobs"] or {}).get("tokens", [])
    assert texts == [choice["text"] for choice in whole["choices"]] == [a.text for a in answers]
    assert tokens == [(c["logprobs"] or {}).get("tokens", []) for c in whole["choices"]]
    assert tokens == [[token["token"] for token in answer.tokens] for answer in answers]
