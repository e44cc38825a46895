"""Streams of events with something missing, too much or malformed.

Asked for an answer that is not streamed, they give the right one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import wraps

from experts.broken.scene import Acts, Fault, Scene, fault, healthy
from experts.fakes.server import LAST_CHUNK, Then, chunk, event

Pieces = Iterator[bytes]
_PAUSE_S = 0.3


def _of_stream(pieces: Callable[[Scene], Pieces]) -> Fault:
    """The fault that sends these pieces of a stream."""

    @wraps(pieces)
    def acts(scene: Scene) -> Acts:
        if not scene.streams:
            yield from healthy(scene)
            return
        yield scene.head()
        for piece in pieces(scene):
            yield chunk(piece)
        yield LAST_CHUNK

    return fault(acts)


@_of_stream
def no_done(scene: Scene) -> Pieces:
    """All but the last event."""
    yield from scene.events[:-1]


@_of_stream
def no_finish(scene: Scene) -> Pieces:
    """All but the finish reason."""
    yield from scene.events[: scene.ended - 1]
    yield from scene.events[scene.ended :]


@_of_stream
def no_usage(scene: Scene) -> Pieces:
    """All but the token counts."""
    yield from (piece for piece in scene.events if b'"usage"' not in piece or b'"finish' in piece)


@_of_stream
def malformed_first(scene: Scene) -> Pieces:
    """A malformed event before all others."""
    yield b'data: {"choices": [{"delta": {"con\n\n'
    yield from scene.events


@_of_stream
def malformed_amid(scene: Scene) -> Pieces:
    """Malformed events of several kinds among good ones."""
    yield from scene.events[: scene.told]
    yield b'data: {"choices": [{"delta": {"cont\n\n'
    yield b"data: null\n\n"
    yield b'data: {"choices": "none"}\n\n'
    yield b'data: {"choices": [{"index": 0, "delta": 7}]}\n\n'
    yield b"nonsense without a colon\n\n"
    yield b"data: \xff\xfe\n\n"
    yield from scene.events[scene.told :]


@_of_stream
def malformed_last(scene: Scene) -> Pieces:
    """A malformed event in place of the last one."""
    yield from scene.events[:-1]
    yield b"data: [DO\n\n"


@_of_stream
def lost_piece(scene: Scene) -> Pieces:
    """A piece of the text that breaks off within its first word, and all that follows."""
    yield from scene.events[: scene.told]
    cut = re.sub(rb'((?:content|text)":".).*', rb"\1", scene.events[scene.told].rstrip())
    yield cut + b"\n\n"
    yield from scene.events[scene.told + 1 :]


@_of_stream
def in_messages(scene: Scene) -> Pieces:
    """Pieces under the name that they have in whole answers."""
    yield from (piece.replace(b'"delta":', b'"message":') for piece in scene.events)


@_of_stream
def parted(scene: Scene) -> Pieces:
    """Text in a list of parts."""
    for piece in scene.events:
        start, name, rest = piece.partition(b'"content":')
        text, _, end = rest.removeprefix(b'"').partition(b'"')
        parts = b'[{"type":"text","text":"%b"}]' % text
        yield start + name + parts + end if name else piece


@_of_stream
def repeated_end(scene: Scene) -> Pieces:
    """The finish and all that follows once more."""
    yield from scene.events
    yield from scene.events[scene.ended - 1 :]


@_of_stream
def text_after_end(scene: Scene) -> Pieces:
    """Text that comes when all is said."""
    yield from scene.events
    yield from scene.events[: scene.told]


@_of_stream
def crlf(scene: Scene) -> Pieces:
    """Lines that end in CR and LF, cut between the two."""
    for piece in scene.events:
        data = piece.replace(b"\n", b"\r\n")
        yield data[:-1]
        yield data[-1:]


@_of_stream
def cr(scene: Scene) -> Pieces:
    """Lines that end in CR."""
    for piece in scene.events:
        yield piece.replace(b"\n", b"\r")


@_of_stream
def no_blank_lines(scene: Scene) -> Pieces:
    """Events with nothing between them."""
    for piece in scene.events:
        yield piece.removesuffix(b"\n")


@_of_stream
def in_lines(scene: Scene) -> Pieces:
    """JSON over several lines, each with the name of its field."""
    for piece in scene.events:
        yield piece.replace(b',"', b',\ndata: "')


@_of_stream
def bare_choices(scene: Scene) -> Pieces:
    """Choices without an index, and none but those with text have a delta."""
    for piece in scene.events:
        yield piece.replace(b'"index":0,', b"").replace(b'"delta":{},', b"")


@fault
def failed_end(scene: Scene) -> Acts:
    """A part of the answer, with a finish reason that says that there will be no more."""
    yield scene.head()
    if scene.streams:
        yield chunk(scene.part)
    end = scene.events[scene.ended - 1] if scene.streams else scene.all
    yield chunk(end.replace(b'"finish_reason":"stop"', b'"finish_reason":"error"'))
    yield LAST_CHUNK


@_of_stream
def no_space(scene: Scene) -> Pieces:
    """No space after the colon."""
    for piece in scene.events:
        yield piece.replace(b"data: ", b"data:").replace(b"event: ", b"event:")


@_of_stream
def comments(scene: Scene) -> Pieces:
    """Comments, empty events and fields that nobody asked for."""
    yield b"\xef\xbb\xbf: hello\n\n"
    for number, piece in enumerate(scene.events):
        yield b": keep-alive\n\n\n\nid: %d\nretry: 100\n" % number + piece
        yield b"data:\n\n"


@_of_stream
def joined_oddly(scene: Scene) -> Pieces:
    """Pieces that end anywhere but at the end of an event."""
    data = scene.all
    for start in range(0, len(data), 37):
        yield data[start : start + 37]


@_of_stream
def error_first(scene: Scene) -> Pieces:
    """An error event before anything is said."""
    yield _error(scene)


@_of_stream
def error_in_middle(scene: Scene) -> Pieces:
    """An error event after some text, and the end in good order."""
    yield from scene.events[: scene.told]
    yield _error(scene)
    yield scene.events[-1]


@_of_stream
def limited_first(scene: Scene) -> Pieces:
    """An error event that speaks of too many requests."""
    yield event(scene.error("rate_limit_error", "too many requests", "rate_limit_exceeded"))


@fault
def silent_after_finish(scene: Scene) -> Acts:
    """The finish reason, and nothing more, not even an end."""
    if scene.streams:
        yield scene.head()
        yield chunk(b"".join(scene.events[: scene.ended]))
        yield Then.STALL
    yield from healthy(scene)


@fault
def slowly(scene: Scene) -> Acts:
    """The right answer, with a pause before each event; all at once if it is not streamed."""
    if scene.streams:
        yield scene.head()
        for piece in scene.events:
            yield _PAUSE_S
            yield chunk(piece)
        yield LAST_CHUNK
        return
    yield from healthy(scene)


@fault
def cut_late(scene: Scene) -> Acts:
    """Some text, a long pause and no more."""
    if scene.streams:
        yield scene.head()
        yield chunk(scene.part)
        yield 8 * _PAUSE_S
        yield Then.CLOSE
    yield from healthy(scene)


@fault
def reset_after_finish(scene: Scene) -> Acts:
    """The finish reason, and a broken connection."""
    if scene.streams:
        yield scene.head()
        yield chunk(b"".join(scene.events[: scene.ended]))
        yield 0.05
        yield Then.RESET
    yield from healthy(scene)


@fault
def silent_after_done(scene: Scene) -> Acts:
    """All events, and no end."""
    if scene.streams:
        yield scene.head()
        yield chunk(scene.all)
        yield Then.STALL
    yield from healthy(scene)


def _error(scene: Scene) -> bytes:
    kind = "overloaded_error" if scene.wire == "anthropic" else "server_error"
    name = "error" if scene.wire == "anthropic" else None
    return event(scene.error(kind, "out of memory"), name)
