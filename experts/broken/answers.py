"""What comes in place of an answer, and odd answers that are right all the same."""

from __future__ import annotations

import gzip
import re

import orjson

from experts.broken.scene import EVENTS, JSON, Acts, Scene, fault, healthy
from experts.fakes.server import LAST_CHUNK, Then, chunk, head


@fault
def web_page(scene: Scene) -> Acts:
    """A web page that says all is well."""
    page = b"<!doctype html><title>Welcome</title><h1>It works</h1>"
    yield head(200, {"content-type": "text/html; charset=utf-8"}, len(page)) + page


@fault
def empty(scene: Scene) -> Acts:
    """No body."""
    yield scene.head(0)


@fault
def only_done(scene: Scene) -> Acts:
    """A stream that is over before it began; an empty object if it is none."""
    last = scene.events[-1] if scene.streams else b"{}"
    yield scene.head(len(last)) + last


@fault
def no_choices(scene: Scene) -> Acts:
    """An answer of the right form that says nothing."""
    name = "choices" if scene.wire == "openai" else "content"
    said = orjson.dumps({**scene.body, name: []})
    data = b"data: " + said + b"\n\n" if scene.streams else said
    yield scene.head(len(data)) + data


@fault
def other_choice(scene: Scene) -> Acts:
    """The right answer, and a second one that nobody asked for; in a stream, that never ends."""
    yield scene.head()
    if not scene.streams:
        first = scene.body["choices"][0]
        yield chunk(orjson.dumps({**scene.body, "choices": [first, {**first, "index": 1}]}))
    for number, piece in enumerate(scene.events if scene.streams else ()):
        yield chunk(piece)
        if number < scene.ended - 1:
            yield chunk(piece.replace(b'"index":0', b'"index":1'))
    yield LAST_CHUNK


@fault
def broken_json(scene: Scene) -> Acts:
    """JSON with an end that does not fit."""
    data = b'data: {"choices": [}\n\n' if scene.streams else b'{"choices": [}'
    yield scene.head(len(data)) + data


@fault
def other_json(scene: Scene) -> Acts:
    """JSON, but a list."""
    data = b"data: [1, 2]\n\n" if scene.streams else b"[1, 2]"
    yield scene.head(len(data)) + data


@fault
def nested_deep(scene: Scene) -> Acts:
    """JSON that could be read but not written again, and has to be: it names no model."""
    said = orjson.dumps({name: value for name, value in scene.body.items() if name != "model"})
    nested = said[:-1] + b',"more":' + b'{"a":' * 300 + b"1" + b"}" * 301
    data = b"data: " + nested + b"\n\n" if scene.streams else nested
    yield scene.head(len(data)) + data


@fault
def error_with_200(scene: Scene) -> Acts:
    """An error as the whole answer, with a status that says all is well."""
    data = orjson.dumps(scene.error("server_error", "out of memory"))
    yield head(200, {"content-type": JSON}, len(data)) + data


@fault
def bad_gzip(scene: Scene) -> Acts:
    """A compressed body of which the rest is none."""
    data = gzip.compress(scene.all)[:10] + b"\xff" * 40
    yield scene.head(len(data), content_encoding="gzip") + data


@fault
def false_gzip(scene: Scene) -> Acts:
    """A body that says it is compressed, and is not."""
    yield scene.head(len(scene.all), content_encoding="gzip") + scene.all


@fault
def gzipped(scene: Scene) -> Acts:
    """A compressed body."""
    data = gzip.compress(scene.all)
    yield scene.head(len(data), content_encoding="gzip") + data


@fault
def absurd_counts(scene: Scene) -> Acts:
    """The right answer, with more tokens than a 64-bit number holds."""
    data = re.sub(
        rb'((?:put|prompt|completion)_tokens":)[0-9]+', rb"\g<1>9223372036854775808", scene.all
    )
    yield scene.head(len(data)) + data


@fault
def no_counts(scene: Scene) -> Acts:
    """The right answer, which is said to have taken no tokens."""
    data = re.sub(rb'((?:put|prompt|completion|total)_tokens":)[0-9]+', rb"\g<1>0", scene.all)
    yield scene.head(len(data)) + data


@fault
def unframed(scene: Scene) -> Acts:
    """A body whose end is that of the connection."""
    yield scene.unframed_head
    yield scene.all
    yield Then.CLOSE


@fault
def closes(scene: Scene) -> Acts:
    """An answer after which the connection is not to be used again."""
    yield scene.head(len(scene.all), connection="close")
    yield scene.all
    yield Then.CLOSE


@fault
def closes_unsaid(scene: Scene) -> Acts:
    """An answer after which the connection is closed without a word."""
    yield from healthy(scene)
    yield Then.CLOSE


@fault
def byte_by_byte(scene: Scene) -> Acts:
    """Each byte in a chunk of its own."""
    yield scene.head()
    data = scene.all
    for start in range(len(data)):
        yield chunk(data[start : start + 1])
    yield LAST_CHUNK


@fault
def at_once(scene: Scene) -> Acts:
    """Head, body and end in one piece."""
    yield scene.head() + chunk(scene.all) + LAST_CHUNK


@fault
def as_text(scene: Scene) -> Acts:
    """The right answer under the wrong content type."""
    yield head(200, {"content-type": "text/plain"}, len(scene.all)) + scene.all


@fault
def as_page(scene: Scene) -> Acts:
    """The right answer under the content type of a web page."""
    yield head(200, {"content-type": "text/html"}, len(scene.all)) + scene.all


@fault
def untyped(scene: Scene) -> Acts:
    """The right answer without a content type."""
    yield head(200, {}, len(scene.all)) + scene.all


@fault
def as_other(scene: Scene) -> Acts:
    """The right answer under the content type of the other way to answer."""
    kind = JSON if scene.streams else EVENTS
    yield head(200, {"content-type": kind}, len(scene.all)) + scene.all


@fault
def twice(scene: Scene) -> Acts:
    """The right answer, and behind it one that nobody asked for, as if to the next request."""
    yield from healthy(scene)
    others = scene.all.replace(b"aus", b"von")
    yield scene.head(len(others)) + others


@fault
def streamed_unasked(scene: Scene) -> Acts:
    """A stream, whether one was asked for or not."""
    data = b"".join(scene.events)
    yield head(200, {"content-type": EVENTS}, len(data)) + data


@fault
def unstreamed(scene: Scene) -> Acts:
    """All at once where a stream was asked for."""
    data = orjson.dumps(scene.body)
    yield head(200, {"content-type": JSON}, len(data)) + data
