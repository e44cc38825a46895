"""What is kept of a response is what its client was told."""

from __future__ import annotations

import anyio

from experts.messages import Choice, Completion, Usage
from gateway.access.keys import Key
from gateway.api.front import Envelope
from gateway.api.responses import ResponsesFront
from gateway.responses.store import KeptResponse, ResponseStore


def test_a_stream_is_kept_with_the_time_that_its_client_was_told() -> None:
    kept: list[KeptResponse] = []

    class Store(ResponseStore):
        def __init__(self) -> None: ...

        async def save(self, response: KeptResponse) -> None:
            kept.append(response)

    front = ResponsesFront(Store())
    asked = front.parse(b'{"model": "small", "input": "Hi"}', {}, Key("me"))
    front.writer(asked, Envelope("dec-1", "small", created=1))
    late, said = Envelope("dec-1", "small", created=9), Completion((Choice("a", "stop"),), None)
    anyio.run(front.keep, asked, late, said, Usage())
    assert [each.body["created_at"] for each in kept] == [1]
