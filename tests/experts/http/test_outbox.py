"""What is sent at the end of a turn of the event loop."""

from __future__ import annotations

import asyncio

from experts.http.outbox import Outbox


class Wire(asyncio.Transport):
    """Remembers what is written to it."""

    def __init__(self, name: str, log: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._name, self._log = name, log
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._log.append((self._name, bytes(data)))

    def is_closing(self) -> bool:
        return self.closing


def test_it_is_sent_in_order_before_the_loop_waits_and_not_to_who_is_gone() -> None:
    log: list[tuple[str, bytes]] = []
    one, two, gone = Wire("one", log), Wire("two", log), Wire("gone", log)
    outbox = Outbox()

    async def turns() -> None:
        outbox.send(one, b"a")
        outbox.send(gone, b"b")
        outbox.send(two, b"c")
        outbox.send(one, b"d")
        gone.closing = True
        assert log == []
        await asyncio.sleep(0)
        assert log == [("one", b"a"), ("two", b"c"), ("one", b"d")]
        # Once sent it is not sent again, and a later turn has an end of its own.
        outbox.send(two, b"e")
        outbox.flush()
        assert log[3:] == [("two", b"e")]
        outbox.send(one, b"f")
        await asyncio.sleep(0)
        assert log[4:] == [("one", b"f")]
        await asyncio.sleep(0)
        assert len(log) == 5

    asyncio.run(turns())
