"""A stream whose end can't be written is told so, as one that breaks within."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from experts.messages import Delta, Event
from gateway.api.answering import pieces_of

pytestmark = pytest.mark.anyio


class Writer:
    """Fails at the end."""

    def write(self, event: Event) -> Iterator[bytes]:
        yield b"said"

    def end(self, usage: Any, cost_usd: float | None) -> Iterator[bytes]:
        raise TypeError("can't be written")

    def fail(self, failure: Any) -> Iterator[bytes]:
        yield failure.message.encode()


async def test_a_stream_whose_end_cannot_be_written_ends_in_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    booking = SimpleNamespace(cost_usd=0.0, cost_complete=True, usage=None, decision_id="dec-1")

    async def events() -> AsyncIterator[Event]:
        yield Delta("said")

    answer = SimpleNamespace(events=events, booking=booking)
    telemetry = SimpleNamespace(clean=lambda failure: failure)
    pieces = pieces_of(cast(Any, Writer()), cast(Any, telemetry), cast(Any, answer))
    assert [piece async for piece in pieces] == [b"said", b"internal error"]
    assert "dec-1 failed" in caplog.text
