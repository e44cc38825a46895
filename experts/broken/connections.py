"""Connections that break, stall or speak nonsense, before an answer and in the middle of one."""

from __future__ import annotations

import re

from experts.broken.scene import EVENTS, Acts, Scene, fault, healthy
from experts.fakes.server import LAST_CHUNK, Then, chunk, head

SHORT_S, LONG_S = 0.15, 3600.0
_HUGE_BYTES = 400_000


@fault
def hang_up(scene: Scene) -> Acts:
    """Not a byte, and the end."""
    yield Then.CLOSE


@fault
def reset(scene: Scene) -> Acts:
    """Not a byte, and a broken connection."""
    yield Then.RESET


@fault
def stale(scene: Scene) -> Acts:
    """A connection that was used before is closed just as the next request comes."""
    if scene.asked.turn > 1:
        yield Then.CLOSE
    yield from healthy(scene)


@fault
def silent(scene: Scene) -> Acts:
    """Nothing at all."""
    yield Then.STALL


@fault
def silent_in_head(scene: Scene) -> Acts:
    """Half a head, then nothing."""
    yield scene.head()[:30]
    yield Then.STALL


@fault
def silent_after_head(scene: Scene) -> Acts:
    """A head, then nothing."""
    yield scene.head()
    yield Then.STALL


@fault
def cut_head(scene: Scene) -> Acts:
    """Half a head, and the end."""
    yield scene.head()[:30]
    yield Then.CLOSE


@fault
def no_http(scene: Scene) -> Acts:
    """Another protocol."""
    yield b"SSH-2.0-OpenSSH_9.9\r\n"
    yield Then.CLOSE


@fault
def bad_length(scene: Scene) -> Acts:
    """A length that is no number."""
    yield scene.head().replace(b"transfer-encoding: chunked", b"content-length: many")
    yield scene.all
    yield Then.CLOSE


@fault
def interim_heads(scene: Scene) -> Acts:
    """Interim heads before the real one."""
    yield b"HTTP/1.1 100 Continue\r\n\r\n"
    yield b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"
    yield from healthy(scene)


@fault
def late(scene: Scene) -> Acts:
    """Everything a little late, but in time."""
    yield SHORT_S
    yield scene.head()
    for piece in scene.events if scene.streams else (scene.all,):
        yield SHORT_S / 2
        yield chunk(piece)
    yield LAST_CHUNK


@fault
def too_late(scene: Scene) -> Acts:
    """A head at once and everything else in an hour, with signs of life until then."""
    yield scene.head()
    for _ in range(int(LONG_S / SHORT_S)):
        yield SHORT_S
        yield chunk(b": wait\n\n" if scene.streams else b" ")
    yield chunk(scene.all)
    yield LAST_CHUNK


@fault
def reset_in_middle(scene: Scene) -> Acts:
    """A part, and a broken connection."""
    yield scene.head()
    yield chunk(scene.part)
    yield SHORT_S
    yield Then.RESET


@fault
def cut_in_middle(scene: Scene) -> Acts:
    """A part, and the end without a last chunk."""
    yield scene.head()
    yield chunk(scene.part)
    yield Then.CLOSE


@fault
def ended_in_middle(scene: Scene) -> Acts:
    """A part, and an end in good order."""
    yield scene.head()
    yield chunk(scene.part)
    yield LAST_CHUNK


@fault
def unframed_cut(scene: Scene) -> Acts:
    """A part of a body that says neither its length nor its end."""
    yield scene.unframed_head
    yield scene.part
    yield Then.CLOSE


@fault
def cut_in_chunk_size(scene: Scene) -> Acts:
    """The end in the middle of a chunk's size."""
    yield scene.head()
    yield chunk(scene.part)
    yield b"1"
    yield Then.CLOSE


@fault
def cut_in_character(scene: Scene) -> Acts:
    """The end within a character of several bytes."""
    data = scene.all
    yield scene.head()
    yield chunk(data[: data.index("你".encode()) + 1])
    yield Then.CLOSE


@fault
def cut_in_event(scene: Scene) -> Acts:
    """A part, half an event and an end in good order."""
    yield scene.head()
    yield chunk(scene.part + scene.rest[:20])
    yield LAST_CHUNK


@fault
def silent_in_middle(scene: Scene) -> Acts:
    """A part, then nothing."""
    yield scene.head()
    yield chunk(scene.part)
    yield Then.STALL


@fault
def comments_in_middle(scene: Scene) -> Acts:
    """A part, then nothing but comments."""
    yield scene.head()
    yield chunk(scene.part)
    while True:
        yield 0.01
        yield chunk(b": keep-alive\n\n" if scene.streams else b" ")


@fault
def empty_in_middle(scene: Scene) -> Acts:
    """A part, then nothing but pieces that say nothing."""
    if not scene.streams:
        yield from healthy(scene)
        return
    yield scene.head()
    yield chunk(scene.part)
    while True:
        yield 0.01
        yield chunk(re.sub(rb'((?:content|text)":")[^"]*', rb"\1", scene.events[scene.told - 1]))


@fault
def silent_before_finish(scene: Scene) -> Acts:
    """All of the text, but not its finish."""
    data = b"".join(scene.events[: scene.ended - 1]) if scene.streams else scene.all[:-1]
    yield scene.head()
    yield chunk(data)
    yield Then.STALL


@fault
def bad_chunk_size(scene: Scene) -> Acts:
    """A chunk whose size is no number."""
    yield scene.head()
    yield chunk(scene.part)
    yield b"zz\r\n" + scene.rest + b"\r\n"
    yield Then.CLOSE


@fault
def too_short(scene: Scene) -> Acts:
    """Fewer bytes than announced, though all of the answer."""
    yield scene.head(len(scene.all) + 10)
    yield scene.all
    yield Then.CLOSE


@fault
def too_long(scene: Scene) -> Acts:
    """More bytes than announced: what was announced is not all of the answer."""
    yield scene.head(len(scene.part))
    yield scene.all
    yield Then.CLOSE


@fault
def huge_event(scene: Scene) -> Acts:
    """Far more than anybody wants to hold in memory."""
    yield scene.head()
    yield chunk(b'data: {"x": "' if scene.streams else b'{"x": "')
    for _ in range(_HUGE_BYTES // 4000):
        yield chunk(b"x" * 4000)
    yield Then.CLOSE


@fault
def endless(scene: Scene) -> Acts:
    """The answer, and then more and more of nothing."""
    yield scene.head()
    yield chunk(scene.all)
    while True:
        yield 0.01
        yield chunk(b": more\n\n" if scene.streams else b" ")


@fault
def babbling(scene: Scene) -> Acts:
    """The text over and over, as a stream even if none was asked for."""
    yield head(200, {"content-type": EVENTS}, None)
    yield chunk(b"".join(scene.events[: scene.told]))
    while True:
        yield chunk(b"".join(scene.events[scene.told : scene.ended - 1]) * 20)
