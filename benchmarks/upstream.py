"""An OpenAI-speaking upstream that paces a thousand streams on a fraction of a core.

`python benchmarks/upstream.py --frames 50 --interval 0.1` listens on a free loopback port and
prints its URL as one line of JSON. Every stream has the same numbered frames (`f0 `, `f1 `, …),
sent by one timer for all of them. `GET /stats` says how the streams ended, and how many
connections there are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

_TICK_S = 0.005
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Stats:
    """What happened so far.

    Attributes:
        connections: Open ones, the one that asks included.
        accepted: All that ever were.
        begun, completed, aborted: Streams: all, those sent to their end, those whose reader left.
        whole: Answers that were not streamed.
    """

    connections: int = 0
    accepted: int = 0
    begun: int = 0
    completed: int = 0
    aborted: int = 0
    whole: int = 0


class Upstream:
    """What all connections share: the frames, and the timer that sends them.

    Args:
        frames: Frames of every stream.
        interval_s: Between two of them.
    """

    def __init__(self, frames: int, interval_s: float) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": frames, "total_tokens": 10 + frames}
        self.stats = Stats()
        self.interval_s = interval_s
        self.frames = [_frame({"content": f"f{number} "}) for number in range(frames)]
        self.frames[-1] += _frame({}, "stop") + _chunk({"choices": [], "usage": usage})
        self.frames[-1] += _sse(b"[DONE]") + b"0\r\n\r\n"
        message = {"role": "assistant", "content": "f0 "}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self.whole = _whole({"object": "chat.completion", "choices": choices, "usage": usage})
        self._due: list[tuple[float, UpstreamConnection]] = []
        self._ticking = False

    def pace(self, connection: UpstreamConnection) -> None:
        """Begin a stream on `connection`; its first frame is sent at once."""
        self.stats.begun += 1
        self._send(connection, asyncio.get_running_loop().time())
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # The interval is the same for all, so that the oldest is always the first one due.
        place = 0
        while place < len(self._due) and self._due[place][0] <= now:
            place += 1
        due, self._due = self._due[:place], self._due[place:]
        for at, connection in due:
            self._send(connection, at)
        self._ticking = bool(self._due)
        if self._ticking:
            loop.call_later(_TICK_S, self._tick)

    def _send(self, connection: UpstreamConnection, at: float) -> None:
        if connection.next_frame is None:
            return
        connection.write(self.frames[connection.next_frame])
        connection.next_frame += 1
        if connection.next_frame == len(self.frames):
            connection.next_frame = None
            self.stats.completed += 1
        else:
            self._due.append((at + self.interval_s, connection))


class UpstreamConnection(asyncio.Protocol):
    """One connection; requests on it are answered one after the other.

    Attributes:
        next_frame: Number of the next frame of the stream under way; None without one.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.next_frame: int | None = None
        self._upstream = upstream
        self._got = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server has no others
        self._transport = transport
        self._upstream.stats.connections += 1
        self._upstream.stats.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._upstream.stats.connections -= 1
        if self.next_frame is not None:
            self.next_frame = None
            self._upstream.stats.aborted += 1

    def write(self, data: bytes) -> None:
        """Send, if somebody is there."""
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._got[:end]).lower()
        _, _, rest = head.partition(b"content-length:")
        size = int(rest.partition(b"\r\n")[0] or b"0")
        if len(self._got) < end + 4 + size:
            return
        body = bytes(self._got[end + 4 : end + 4 + size])
        del self._got[: end + 4 + size]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /stats"):
            self.write(_whole(asdict(self._upstream.stats)))
        elif orjson.loads(body).get("stream"):
            self.next_frame = 0
            self.write(_HEAD)
            self._upstream.pace(self)
        else:
            self._upstream.stats.whole += 1
            self.write(self._upstream.whole)


def _frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _chunk(payload: object) -> bytes:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _sse(orjson.dumps({**base, **payload} if isinstance(payload, dict) else payload))


def _sse(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _whole(payload: object) -> bytes:
    data = orjson.dumps(payload)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


async def serve(upstream: Upstream, port: int) -> None:
    """Serve on the loopback address until cancelled; says where on standard output."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: UpstreamConnection(upstream), "127.0.0.1", port, backlog=4096
    )
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(orjson.dumps({"url": url}).decode() + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two frames")
    args = parser.parse_args(words)
    asyncio.run(serve(Upstream(args.frames, args.interval), args.port))


if __name__ == "__main__":
    main()
