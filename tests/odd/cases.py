"""Every odd answer: each sound one with one oddity, asked for in each way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.odd.answers import SHAPES, Shape
from tests.odd.nodes import changes, written
from tests.odd.rig import Odd

_STRAY = {
    "null": "null",
    "number": "5",
    "text": '"x"',
    "list": "[]",
    "lists": "[[]]",
    "object": "{}",
    "mystery": '{"type":"mystery","x":{"y":[1]}}',
    "ping": '{"type":"ping"}',
    "no choices": '{"choices":[],"usage":null}',
    "null choice": '{"choices":[null]}',
    "counts alone": '{"usage":{"prompt_tokens":3,"completion_tokens":1}}',
    "odd counts": '{"choices":[],"usage":{"prompt_tokens":"x","completion_tokens":-3}}',
    "null delta": '{"choices":[{"index":0,"delta":null,"finish_reason":null}]}',
    "other choice": '{"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":null}]}',
    "minus choice": '{"choices":[{"index":-1,"delta":{"content":"no"},"finish_reason":null}]}',
    "far choice": '{"choices":[{"index":9223372036854775807,"delta":{},"finish_reason":null}]}',
    "no error": '{"error":null}',
    "empty error": '{"error":{}}',
    "error": '{"error":true}',
    "odd error": '{"error":{"message":{"a":1},"code":[],"type":5}}',
    "error event": '{"type":"error","error":[]}',
    "start": '{"type":"message_start","message":null}',
    "block": '{"type":"content_block_start","index":0,"content_block":null}',
    "piece": '{"type":"content_block_delta","index":7,"delta":{"type":"text_delta"}}',
    "stop": '{"type":"content_block_stop","index":7}',
    "end": '{"type":"message_delta","delta":null,"usage":null}',
}


def odd_streams(shape: Shape) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each odd stream with its name."""
    sound = tuple(map(written, shape.stream))
    for place, said in enumerate(shape.stream):
        for change in changes(said):
            yield f"{place}/{change.name}", _put(sound, place, change.text)
        yield f"without {place}", (*sound[:place], *sound[place + 1 :])
        yield f"{place} twice", (*sound[: place + 1], *sound[place:])
        for name, stray in _STRAY.items():
            yield f"{name} before {place}", (*sound[:place], stray, *sound[place:])
    for one, other in pairwise(range(len(sound))):
        swapped = _put(_put(sound, one, sound[other]), other, sound[one])
        yield f"{other} before {one}", swapped
    yield "backwards", sound[::-1]
    yield "nothing", ()


def _put(texts: tuple[str, ...], place: int, text: str) -> tuple[str, ...]:
    return (*texts[:place], text, *texts[place + 1 :])


def odd_wholes(shape: Shape) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each odd answer that is not streamed with its name."""
    for change in changes(shape.whole):
        yield change.name, (change.text,)
    for name, stray in _STRAY.items():
        yield name, (stray,)


def fronts_of(shape: Shape) -> Sequence[str]:
    """Who can ask for such an answer."""
    if shape.api != "chat":
        return (shape.api,)
    openai = ("completions",) if shape.name in ("text", "logprobs") else ()
    return ("chat", "messages", "responses", *openai)


def odd_answers() -> Iterator[Odd]:
    """All of them."""
    for shape in SHAPES.values():
        for stream in (False, True):
            if stream and not shape.stream:
                continue
            made = list((odd_streams if stream else odd_wholes)(shape))
            for name, texts in made:
                for front in fronts_of(shape):
                    for auto in (False, True):
                        yield Odd(name, shape, texts, front, stream, auto)
