"""A plain request and the same one on the ordinary path: nobody can tell them apart."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

import anyio
import httpx2
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.wire.openai import ChatDialect
from gateway.access.keys import Key
from gateway.api.chat_in import parse_chat
from gateway.errors import ApiError
from gateway.fast.exchange import Exchange
from gateway.fast.naming import ModelName
from gateway.fast.plain_answer import read_answer
from gateway.fast.plain_body import read_plain
from gateway.fast.protocol import FastProtocol
from gateway.fast.quick import Quick
from gateway.fast.whole import read_whole
from gateway.ledger import tables
from gateway.server.protocol import REFUSED
from routers.eligible import Constraints
from routers.explicit import explicit_decision, usual_answer
from routers.features import estimate_tokens
from tests.gateway.raw import until

Remote = Callable[..., Expert]
Serve = Callable[..., Any]


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many requests ended as quick ones, and how many became exchanges."""
    counted = {"quick": 0, "exchange": 0}
    end, enlist = Quick._end, Exchange.enlist

    def ended(self: Quick, *given: Any) -> None:
        counted["quick"] += 1
        end(self, *given)

    def enlisted(self: Exchange) -> None:
        counted["exchange"] += 1
        enlist(self)

    monkeypatch.setattr(Quick, "_end", ended)
    monkeypatch.setattr(Exchange, "enlist", enlisted)
    return counted


def answer(text: str = "Hello", **usage: Any) -> Reply:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    counts = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, **usage}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return Reply(whole={**body, "choices": [choice], "usage": counts})


_REQUEST = (
    tables.request, tables.decision, tables.attempt, tables.attempt_result, tables.request_result,
)  # fmt: skip
_OF_ITS_OWN = re.compile(r"_id$|^at$|_s$")


def booked(served: Any) -> list[dict[str, Any]]:
    """All rows, but for ids, times and durations."""
    anyio.run(served.gateway.ledger.flush)
    with served.gateway.ledger.engine.connect() as connection:
        return [
            {
                name: value
                for name, value in row.items()
                if name in ("expert_id", "price_id") or not _OF_ITS_OWN.search(name)
            }
            for table in _REQUEST
            for row in connection.execute(select(table).order_by(table.c.at)).mappings()
        ]


def figures(served: Any) -> list[str]:
    """Everything that is counted of requests; of durations only how many there are."""
    text = served.client.get("/metrics").text
    wanted = ("_requests", "_decision", "_attempts", "_tokens", "_cost", "_unpriced", "_zero_cost")
    counts = [line for line in text.splitlines() if line.startswith("pointsman_")]
    return sorted(
        line
        for line in counts
        if "_created" not in line
        and (re.match(r"\w+_count\b", line) or line.removeprefix("pointsman").startswith(wanted))
        and "event_loop" not in line
        and "_bucket" not in line
        and "_sum" not in line
    )


@pytest.mark.parametrize(
    ("durability", "text"), [("strict", "full"), ("relaxed", "hash"), ("relaxed", "none")]
)
def test_books_figures_and_headers_are_those_of_the_ordinary_path(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    paths: dict[str, int],
    tmp_path: Any,
    durability: str,
    text: str,
) -> None:
    provider.otherwise = answer("Mail ann@example.org")
    said = []
    for fast in (True, False):
        provider.script.extend([answer(), answer(prompt_tokens_details={"cached_tokens": 4})])
        ledger = {
            "url": f"sqlite:///{tmp_path}/{fast}.db", "durability": durability, "text": text
        }  # fmt: skip
        experts = {
            "priced": remote("priced", provider.url),
            "free": remote("free", provider.url, Prices(0, 0)),
        }
        served = serve(
            experts,
            server={"fast_path": fast},
            ledger=ledger,
            aliases={"gpt": "priced"},
            telemetry={"key_labels": True},
        )
        answers = [
            served.ask("priced", "I am bob@example.org", max_tokens=20, temperature=0),
            served.ask("priced", "Second"),
            served.ask("gpt", "Third", stop=["x"]),
            served.ask("free", "Fourth", stream=False, user="u"),
        ]
        heads = [
            {n: v for n, v in each.headers.items() if n not in ("date", *_OF_ITS_OWN_HEADERS)}
            for each in answers
        ]
        bodies = [orjson.loads(each.content) for each in answers]
        texts = [each["choices"][0]["message"]["content"] for each in bodies]
        counts = [each["usage"]["total_tokens"] for each in bodies]
        said.append((booked(served), figures(served), heads, texts, counts))
        assert served.verified().faults == ()
    assert paths == {"quick": 4, "exchange": 0}
    for quick, ordinary in zip(*said, strict=True):
        assert quick == ordinary


_OF_ITS_OWN_HEADERS = (
    "x-pointsman-decision-id", "x-request-id", "server-timing", "content-length"
)  # fmt: skip


def test_a_routers_request_goes_the_same_way(
    serve: Serve, remote: Remote, provider: FakeProvider, paths: dict[str, int]
) -> None:
    provider.otherwise = answer()
    experts = {name: remote(name, provider.url) for name in ("one", "two")}
    served = serve(experts, routing={"epsilon": 1.0})
    answers = [served.ask("auto", f"Question {n}") for n in range(20)]
    assert paths == {"quick": 20, "exchange": 0}
    records = [served.record(each) for each in answers]
    chance = np.random.default_rng(1)
    assert [record["draw"] for record in records] == [chance.random() for _ in range(20)]
    assert all(record["replay"]["matches"] for record in records)
    chosen = {each.headers["x-pointsman-expert"] for each in answers}
    assert chosen == {"one", "two"}
    assert served.verified().faults == ()


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"stream": True}, {}),
        ({}, {"x-request-id": "mine"}),
        ({}, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        ({}, {"cache-control": "no-store"}),
        ({}, {"x-pointsman-session": "s"}),
        ({"pointsman": {"session": "s"}}, {}),
        ({"tools": []}, {}),
        ({"n": 1}, {}),
        ({"max_completion_tokens": 5}, {}),
        ({"messages": [{"role": "user", "content": "Hi", "name": "ann"}]}, {}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, {}),
    ],
)
def test_what_is_not_plain_becomes_an_exchange(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    paths: dict[str, int],
    fields: dict[str, Any],
    headers: dict[str, str],
) -> None:
    provider.otherwise = answer() if not fields.get("stream") else Reply("Hello")
    served = serve({"only": remote("only", provider.url)})
    body = {"model": "only", "messages": [{"role": "user", "content": "Hi"}], **fields}
    given = served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert given.status_code == 200
    assert paths == {"quick": 0, "exchange": 1}
    assert served.verified().faults == ()


def test_a_path_without_a_version_goes_the_same_way(
    serve: Serve, remote: Remote, provider: FakeProvider, paths: dict[str, int]
) -> None:
    provider.otherwise = answer()
    served = serve({"only": remote("only", provider.url)})
    for path in ("/chat/completions", "/v1/chat/completions"):
        given = served.client.post(path, json=_BODY)
        assert given.json()["choices"][0]["message"]["content"] == "Hello"
    assert paths == {"quick": 2, "exchange": 0}
    assert served.verified().faults == ()


def test_a_key_that_is_revoked_opens_nothing_more_on_a_connection_that_it_opened(
    serve: Serve, remote: Remote, provider: FakeProvider, paths: dict[str, int]
) -> None:
    provider.otherwise = answer()
    served = serve({"only": remote("only", provider.url)}, keys=[_OPERATOR])
    admin = {"authorization": f"Bearer {_OPERATOR['key']}"}
    made = served.client.post("/admin/keys", json={"name": "new"}, headers=admin).json()
    secret = {"authorization": f"Bearer {made['key']}"}
    body = {"model": "only", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(3):
        assert served.client.post("/v1/chat/completions", json=body, headers=secret).is_success
    assert paths["quick"] == 3
    assert served.client.post("/admin/keys/new/revoke", headers=admin).is_success
    refused = served.client.post("/v1/chat/completions", json=body, headers=secret)
    assert refused.status_code == 401


_OPERATOR = {"name": "operator", "key": "pm-operator-secret-000000", "role": "admin"}


def test_a_client_that_leaves_takes_the_call_with_it(
    serve: Serve, remote: Remote, provider: FakeProvider, paths: dict[str, int]
) -> None:
    provider.script.append(Reply(stall_after=0))
    served = serve({"only": remote("only", provider.url)})
    with pytest.raises(httpx2.TimeoutException):
        served.client.post("/v1/chat/completions", json=_BODY, timeout=0.5)
    lane = served.gateway.lane
    until(lambda: not (lane.live or lane.quick.waiting))
    assert paths == {"quick": 0, "exchange": 1}
    totals = served.totals()
    assert (totals["requests"], served.verified().open_attempts) == (1, 0)


def test_a_connection_ends_well_after_its_last_request(
    serve: Serve, remote: Remote, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.otherwise = answer()
    served = serve({"only": remote("only", provider.url)})
    assert served.ask("only").is_success
    protocols = [each for each in gc.get_objects() if type(each) is FastProtocol]
    served.client.close()
    until(lambda: all(protocol.phase == REFUSED for protocol in protocols))
    assert [protocol.cycle for protocol in protocols] == [None] * len(protocols)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


_BODY = {"model": "only", "messages": [{"role": "user", "content": "Hi"}]}

_values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(allow_nan=False), st.text(max_size=3),
    st.lists(st.text(max_size=2), max_size=2), st.just({"include_usage": True}),
)  # fmt: skip
_odd = st.one_of(
    st.integers(0, 6), st.sampled_from([[], {}, [{}], {"cached_tokens": 2}, "system"]), _values
)
Place = tuple[str | int, ...]


@st.composite
def _changed(draw: st.DrawFn, usual: Any, places: list[Place]) -> Any:
    """What is usual, with other values in a few places at most."""
    body = deepcopy(usual)
    for place in draw(st.lists(st.sampled_from(places), max_size=3)):
        within: Any = body
        # What holds a place may have been replaced itself.
        with suppress(KeyError, IndexError, TypeError):
            for step in place[:-1]:
                within = within[step]
            within[place[-1]] = deepcopy(draw(_odd))
    return body


_ASKED = {
    "model": "m",
    "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
}
_ASKED_PLACES: list[Place] = [
    *((name,) for name in (*_ASKED, "stream", "max_tokens", "temperature", "stop", "top_p")),
    *((name,) for name in ("stream_options", "n", "api_key", "seed", "x")),
    *(("messages", 1, name) for name in ("role", "content", "name")),
    ("messages", 0),
]


@given(_changed(_ASKED, _ASKED_PLACES))
@settings(max_examples=300, deadline=None)
def test_what_is_plain_is_read_as_the_ordinary_path_reads_it(body: Any) -> None:
    plain = read_plain(orjson.dumps(body))
    if plain is None:
        return
    try:
        ask = parse_chat(orjson.loads(orjson.dumps(body)), {}, Key("k"))
    except ApiError as error:
        raise AssertionError(f"it is refused: {error}") from error
    request = ask.request
    assert (plain.stream, plain.text) == (request.stream, request.text)
    assert (plain.max_tokens, plain.body) == (request.max_tokens, body)
    # And what is sent, and expected to be paid, is the same.
    card = ExpertCard("e", prices=Prices(3, 7), max_output_tokens=200)
    usual, most = usual_answer(card), plain.max_tokens
    usd = Prices(3, 7).expected_usd(
        estimate_tokens(plain.text), usual if most is None else min(most, usual)
    )
    decision = explicit_decision(request, card, Constraints())
    assert decision.candidates.cost_usd_A.tolist() == [usd]
    assert ChatDialect().takes_all


_PLACES: list[Place] = [
    *((name,) for name in (*_ASKED, "stream", "max_tokens", "temperature", "stop", "top_p")),
    *((name,) for name in ("stream_options", "n", "api_key", "seed", "x")),
    *(("messages", 1, name) for name in ("role", "content", "name")),
    ("messages", 0),
]


_ANSWER: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes"},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
_ANSWER_PLACES: list[Place] = [
    *((name,) for name in (*_ANSWER, "error")),
    *(("choices", 0, name) for name in ("index", "message", "finish_reason", "logprobs")),
    *(
        ("choices", 0, "message", name)
        for name in ("role", "content", "tool_calls", "refusal", "reasoning_content")
    ),
    *(("usage", name) for name in (*_ANSWER["usage"], "prompt_tokens_details")),
]


@given(_changed(_ANSWER, _ANSWER_PLACES))
@settings(max_examples=500, deadline=None)
def test_an_answer_that_goes_through_is_read_as_the_relay_reads_it(body: Any) -> None:
    raw = orjson.dumps(body)
    found = read_answer(raw)
    if found is None:
        return
    whole = read_whole("e", lambda _: iter(()), raw, 1, ModelName("m"))
    assert whole.body is not None
    usage = whole.usage
    assert usage is not None
    counts = (usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning)
    assert found.tokens == counts
    assert (found.finish_reason, found.text) == (whole.finish_reason, whole.text)


def test_what_most_answers_look_like_goes_through() -> None:
    raw = orjson.dumps(answer().whole)
    found = read_answer(raw)
    assert found is not None
    assert (found.tokens, found.text, found.finish_reason) == ((10, 0, 0, 2, 0), "Hello", "stop")
