"""How long the next piece of a stream is waited for, with a clock that is put forward by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.server import event
from gateway.fast.exchange import Exchange
from tests.conftest import Serve, Served
from tests.gateway.fast.test_late_readers import on_loop, under_way
from tests.gateway.raw import chat, line, post

Remote = Callable[..., Expert]
LIMITS = {"total_s": 50, "stream_s": 500, "idle_s": 200}


def said(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@contextmanager
def begun(served: Served) -> Iterator[Exchange]:
    """A stream whose first piece its client has; there is no more of it."""
    with line(served.url) as client:
        client.send(post(chat(stream=True)))
        while b"word" not in client.got:
            assert client.more()
        (exchange,) = under_way(served)
        yield exchange


@pytest.fixture
def stalls(provider: FakeProvider) -> FakeProvider:
    provider.script.append(Reply("word more", stall_after=1))
    return provider


def later(exchange: Exchange, seconds: float) -> None:
    on_loop(exchange, lambda: exchange.check(exchange._loop.time() + seconds))


def test_a_stream_that_has_begun_may_take_longer_than_other_answers(
    serve: Serve, remote: Remote, stalls: FakeProvider
) -> None:
    served = serve({"a": remote("a", stalls.url)}, limits=LIMITS)
    with begun(served) as exchange:
        later(exchange, 100)
        assert not exchange.over


@pytest.mark.parametrize(
    ("before", "silent"),
    [
        (said({"content": "more"}), {"choices": []}),
        (said({"content": "more"}), said({"content": ""})),
        (said({}, "stop"), said({"content": "late"})),
    ],
    ids=["no choice", "no text", "text after the finish"],
)
def test_what_says_nothing_new_stretches_no_wait(
    serve: Serve,
    remote: Remote,
    stalls: FakeProvider,
    before: dict[str, Any],
    silent: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.fast.relay._GRACE_S", 100.0)
    served = serve({"a": remote("a", stalls.url)}, limits=LIMITS)
    dues: list[float | None] = []
    with begun(served) as exchange:

        def feed() -> None:
            for piece in (before, silent):
                exchange._clock.stop()
                exchange.relay.on_data(event(piece))
                dues.append(exchange._clock._due)

        on_loop(exchange, feed)
        assert not exchange.over
    assert [due is not None for due in dues] == [True, False]


@pytest.mark.parametrize("more", [{}, {"refusal": "no"}], ids=["text", "and what has no equal"])
def test_what_nobody_could_go_on_with_is_waited_for_as_if_there_were_nobody(
    serve: Serve, remote: Remote, provider: FakeProvider, more: dict[str, Any]
) -> None:
    first = said({"content": "word", **more})
    provider.script.append(Reply(chunks=(first, first), stall_after=1))
    served = serve(
        {"a": remote("a", provider.url), "b": remote("b", provider.url)},
        limits=LIMITS,
        execution={"fallbacks": {"a": ["b"]}},
    )
    with begun(served) as exchange:
        later(exchange, 100)
        assert exchange.over is not bool(more)
        if more:
            later(exchange, 250)
            assert exchange.over
