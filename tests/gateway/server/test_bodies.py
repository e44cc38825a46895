"""Large bodies, one and many: taken, or refused before they are read; never too many at once."""

from __future__ import annotations

import gc
import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider
from experts.fakes.scripted import ScriptedExpert, says
from gateway.errors import ApiError
from gateway.server.bodies import Bodies, BodyHold, weight
from tests.conftest import Serve, Served
from tests.gateway.raw import CHAT, chat, head, line, post, until

MIB = 1024 * 1024


@pytest.fixture
def served(serve: Serve) -> Iterator[Served]:
    limits = {"max_body_bytes": MIB, "max_bodies_bytes": 16 * MIB}
    served = serve({"a": ScriptedExpert(ExpertCard("a"), says("Hello"))}, limits=limits)
    yield served
    assert served.gateway.lasting.bodies.held == 0


def test_a_body_that_is_declared_too_long_is_refused_unread(served: Served) -> None:
    with line(served.url) as client:
        client.send(head(f"content-length: {MIB + 1}", "expect: 100-continue"))
        assert client.error() == (413, "body_too_large")


def test_a_body_that_grows_too_long_is_refused_on_its_way(served: Served) -> None:
    with line(served.url) as client:
        client.send(head("transfer-encoding: chunked"))
        piece = b"%x\r\n%b\r\n" % (64 * 1024, b"x" * 64 * 1024)
        for _ in range(17):
            client.send(piece)
        assert client.error() == (413, "body_too_large")
        # What follows is thrown away, so that the client gets to read the answer.
        client.send(piece + b"0\r\n\r\n" + post(chat()))
        assert client.status() == 200


def test_a_packed_body_is_told_to_come_unpacked(served: Served) -> None:
    body = chat()
    for packed in (gzip.compress(body), body):
        with line(served.url) as client:
            client.send(post(packed, "content-encoding: gzip", path="/v1/messages"))
            assert client.answer()[0] == 415
    with line(served.url) as client:
        client.send(post(gzip.compress(body), "content-encoding: gzip"))
        assert client.error() == (415, "unsupported_encoding")
    with line(served.url) as client:
        client.send(post(body, "content-encoding: identity"))
        assert client.status() == 200


def test_a_body_as_long_as_it_may_be_is_taken(served: Served) -> None:
    body = chat(user="x" * (MIB - len(chat(user=""))))
    assert len(body) == MIB
    assert served.client.post(CHAT, content=body).status_code == 200


def test_a_client_that_waits_for_leave_to_send_gets_it(served: Served) -> None:
    with line(served.url) as client:
        client.send(head(f"content-length: {len(chat())}", "expect: 100-continue"))
        assert client.status() == 100
        client.send(chat())
        assert client.status() == 200


def test_bodies_that_are_too_many_together_wait_outside(served: Served) -> None:
    bodies = served.gateway.lasting.bodies
    with ExitStack() as stack:
        clients = [stack.enter_context(line(served.url)) for _ in range(4)]
        for client in clients:
            client.send(head(f"content-length: {MIB}"))
        until(lambda: bodies.held == 16 * MIB)
        with line(served.url) as late:
            late.send(head(f"content-length: {MIB}"))
            status, headers, _ = late.answer()
            assert (status, headers["retry-after"]) == (503, "1")
        assert served.client.get("/health/ready").status_code == 200
    until(lambda: bodies.held == 0)
    assert served.ask("a").status_code == 200


@pytest.mark.parametrize("length", [1_000, 500_000])
def test_a_body_that_is_shorter_than_declared_is_nobodys_fault(
    served: Served, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    with line(served.url) as client:
        client.send(head(f"content-length: {length}") + b"{")
    with line(served.url) as client:
        client.send(head("transfer-encoding: chunked") + b"5\r\n{")
    until(lambda: served.gateway.lasting.bodies.held == 0)
    assert served.ask("a").status_code == 200
    assert "pointsman_requests_in_flight 0.0" in served.client.get("/metrics").text
    assert [record.message for record in caplog.records] == []


def test_a_body_is_held_until_its_answer_is_complete(
    serve: Serve, provider: FakeProvider, remote: Callable[..., Expert]
) -> None:
    provider.otherwise = type(provider.otherwise)(stall_after=1)
    served = serve({"a": remote("a", provider.url)})
    with line(served.url) as client:
        client.send(post(chat(stream=True, user="x" * 100_000)))
        assert provider.stalled.wait(timeout=30)
        assert served.gateway.lasting.bodies.held >= 400_000
    until(lambda: served.gateway.lasting.bodies.held == 0)


def test_a_body_of_nothing_but_lists_is_refused_for_what_it_would_become(served: Served) -> None:
    body = chat()[:-1] + b',"places":[' + b"[]," * 100_000 + b"[]]}"
    answer = served.client.post(CHAT, content=body)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_text_weighs_a_few_times_its_length() -> None:
    assert weight(b"x" * 1000) == 4000
    assert weight(b"[1,2]") == 20 + 64 * 3


def test_a_hold_is_given_back_once() -> None:
    bodies = Bodies()
    hold, other = BodyHold(bodies, 8000), BodyHold(bodies, 8000)
    hold.expect(1000)
    hold.fill(b"x" * 1000)
    assert bodies.held == 4000
    with pytest.raises(ApiError, match="no room") as refused:
        other.expect(1001)
    assert refused.value.status == 503
    other.expect(1000)
    hold.release()
    hold.release()
    assert bodies.held == 4000
    other.release()
    assert bodies.held == 0


def test_a_large_body_is_read_without_looking_for_garbage(served: Served) -> None:
    body = chat()[:-1] + b',"places":[' + b"[]," * 60_000 + b"[]" + b" " * 300_000 + b"]}"
    found: list[int] = []

    def seen(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] > 0:
            found.append(info["generation"])

    gc.collect()
    gc.callbacks.append(seen)
    try:
        assert served.client.post(CHAT, content=body).status_code == 200
    finally:
        gc.callbacks.remove(seen)
    # Sixty thousand lists would be looked through eight times.
    assert len(found) < 4
    assert gc.isenabled()
