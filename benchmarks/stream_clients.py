"""Opens many paced streams at once, leaves some of them, and looks at every frame of the others.

`python benchmarks/stream_clients.py URL --streams 1000 --leave 0.3` prints one line of JSON: how
many streams were read to their end, how many were left, and what was wrong with any.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import numpy as np
import orjson

_MOST_FAULTS = 20


@dataclass(slots=True)
class Report:
    """How the streams ended.

    Attributes:
        complete: Read to their end, every frame once and in order, and `[DONE]`.
        left: Left by us on the way.
        frames: Frames that were read.
        faulty: Streams with anything else.
        faults: The first of those, one sentence each.
    """

    complete: int = 0
    left: int = 0
    frames: int = 0
    faulty: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, name: str, what: str) -> None:
        """Something is wrong with a stream."""
        self.faulty += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"{name}: {what}")


class Stream(asyncio.Protocol):
    """One stream.

    Args:
        name: For the report.
        request: The bytes of the whole request.
        frames: How many there must be.
        leave_at: After so many we leave; None: never.
        report: Where it is told how it ended.
    """

    def __init__(
        self, name: str, request: bytes, frames: int, leave_at: int | None, report: Report
    ) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._name = name
        self._request = request
        self._frames = frames
        self._leave_at = leave_at
        self._report = report
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()
        self._body = bytearray()
        self._in_body = False
        self._read = 0
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP client has no others
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._end(f"the connection ended after frame {self._read - 1}: {exc}")

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._got += data
        problem = self._take()
        if problem is not None:
            self._end(problem)

    def _end(self, problem: str | None) -> None:
        self.ended.set_result(None)
        self._report.frames += self._read
        if problem is not None:
            self._report.fault(self._name, problem)
        if self._transport is not None:
            # Half of those who leave say so politely, half just vanish.
            leave = self._transport.abort if self._read % 2 else self._transport.close
            leave()

    def _take(self) -> str | None:
        """Reads what has come; returns what is wrong with it."""
        if not self._in_body:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return None
            if not self._got.startswith(b"HTTP/1.1 200"):
                return f"answered {bytes(self._got[:300])!r}"
            del self._got[: end + 4]
            self._in_body = True
        while (piece := self._piece()) is not None:
            self._body += piece
            while (end := self._body.find(b"\n\n")) >= 0:
                event = bytes(self._body[:end])
                del self._body[: end + 2]
                if (problem := self._event(event)) is not None or self.ended.done():
                    return problem
        return None

    def _piece(self) -> bytes | None:
        """The next chunk, if it is here."""
        end = self._got.find(b"\r\n")
        if end < 0:
            return None
        size = int(self._got[:end], 16)
        if len(self._got) < end + 4 + size:
            return None
        piece = bytes(self._got[end + 2 : end + 2 + size])
        del self._got[: end + 4 + size]
        return piece

    def _event(self, event: bytes) -> str | None:
        data = event.removeprefix(b"data: ")
        if data == b"[DONE]":
            if self._read != self._frames or not self._finished:
                return f"[DONE] after {self._read} of {self._frames} frames"
            self._report.complete += 1
            self._end(None)
            return None
        choices = orjson.loads(data).get("choices")
        if choices is None:
            return f"an event that is no chunk: {data[:200]!r}"
        for choice in choices:
            self._finished |= choice["finish_reason"] == "stop"
            text = choice["delta"].get("content")
            if not text:
                continue
            if text != f"f{self._read} ":
                return f"{text!r} in place of frame {self._read}"
            self._read += 1
        if self._read == self._leave_at:
            self._report.left += 1
            self._end(None)
        return None


async def drive(
    url: str, streams: int, leave: float, frames: int, seed: int, at_once: int = 100
) -> Report:
    """Open all streams, at most `at_once` connections being made at a time, and read them.

    Args:
        url: The gateway's.
        streams: How many.
        leave: The share of clients that leave.
        frames: How many frames each stream must have.
        seed: Decides who leaves, and after which frame.
        at_once: Connections being opened at a time.
    """
    rng = np.random.default_rng(seed)
    leaving = set(rng.choice(streams, round(streams * leave), replace=False).tolist())
    # In the first half: later the upstream may be done before it hears of it.
    points = rng.integers(1, max(2, frames // 2), streams).tolist()
    report, address = Report(), urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    slots = asyncio.Semaphore(at_once)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        name = f"stream {number}"
        leave_at = points[number] if number in leaving else None

        def make() -> Stream:
            request = request_bytes(number, streamed=True)
            return Stream(name, request, frames, leave_at, report)

        async with slots:
            try:
                _, stream = await loop.create_connection(make, host, port)
            except OSError as error:
                report.fault(name, f"could not connect: {error}")
                return
        await stream.ended

    async with asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(one(number))
    return report


def request_bytes(number: int, *, streamed: bool) -> bytes:
    """One whole chat request."""
    body = orjson.dumps(
        {
            "model": "paced",
            "stream": streamed,
            "messages": [{"role": "user", "content": f"Count, client {number}. " * 10}],
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line, read the streams, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--leave", type=float, default=0.3)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(words)
    report = asyncio.run(drive(args.url, args.streams, args.leave, args.frames, args.seed))
    sys.stdout.write(orjson.dumps(asdict(report)).decode() + "\n")


if __name__ == "__main__":
    main()
