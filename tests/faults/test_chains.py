"""What takes more than one expert, or more than one request."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import trustme

from experts.broken.provider import TEXT, BrokenProvider, broken_provider
from experts.fakes.server import Then
from gateway.app import create_app
from gateway.pool.pool import build_experts
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.wiring import build_gateway
from tests.faults.apis import APIS
from tests.faults.rig import PATIENCE_S, WAYS, Bench

DEAD = "http://127.0.0.1:9/v1"
TWICE = [("first", "connection")] * 2
"""Who is named is asked once more before its stand-in."""
LONG = dict.fromkeys(("header_s", "first_token_s", "idle_s", "whole_s"), 50)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ways = pytest.mark.parametrize("way", WAYS)


class Gateway(Bench):
    """A gateway and a client of its own."""

    def ask(
        self, model: str = "first", *, stream: bool, api: str = "chat", **more: Any
    ) -> httpx2.Response:
        body = {"model": model, **APIS[api].body(stream=stream), **more}
        return httpx2.post(self.url + APIS[api].path, json=body, timeout=PATIENCE_S)

    def text(self, answer: httpx2.Response, *, stream: bool) -> str:
        """The answer's text, which has to be whole."""
        assert answer.status_code == 200, answer.text
        read = APIS["chat"].streamed if stream else APIS["chat"].whole
        heard = read(answer.content)
        assert (heard.error, heard.finish) == (None, "stop")
        return heard.text

    def attempts(self, answer: httpx2.Response) -> list[tuple[str, str | None]]:
        """Who was asked, and how that failed."""
        decision_id = answer.headers["x-pointsman-decision-id"]
        record = httpx2.get(f"{self.url}/v1/decisions/{decision_id}", timeout=PATIENCE_S).json()
        return [(attempt["expert_id"], attempt["error_kind"]) for attempt in record["attempts"]]


Start = Callable[..., Gateway]


@pytest.fixture
def broken() -> Iterator[BrokenProvider]:
    with broken_provider() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, broken: BrokenProvider) -> Iterator[Start]:
    """Start a gateway over two experts, of which the second stands in for the first."""
    with ExitStack() as stack:

        def started(
            first: str | dict[str, Any],
            way: str = "plain",
            second: dict[str, Any] | None = None,
            **sections: Any,
        ) -> Gateway:
            urls = {"base_url": first} if isinstance(first, str) else first
            spare = {"id": "second", "base_url": broken.base("healthy"), **(second or {})}
            experts = [{"id": "first", **urls}, spare]
            execution = {"fallbacks": {"first": ["second"]}, "backoff_s": 0.01}
            execution |= sections.pop("execution", {})
            server = {"fast_path": way == "fast"} if len(WAYS) > 1 else {}
            ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
            settings = Settings.model_validate(
                {
                    **{"experts": experts, "execution": execution, "server": server},
                    **{"ledger": ledger, "data_dir": str(tmp_path), **sections},
                }
            )
            gateway = build_gateway(settings, build_experts(settings, {}), seed=1)
            return Gateway(stack.enter_context(background_server(create_app(gateway))), gateway)

        yield started


@contextmanager
def elsewhere(*greets: Then, tls: Any = None) -> Iterator[str]:
    """The base URL of a healthy provider whose connections fare so."""
    with broken_provider(greets, tls) as running:
        yield running.base("healthy")


@ways
@streams
@pytest.mark.parametrize("fault", ["silent", "silent_in_middle"])
def test_silence_costs_no_more_than_failover_while_another_can_answer(
    start: Start, broken: BrokenProvider, fault: str, stream: bool, way: str
) -> None:
    limits = {**LONG, "failover_s": 0.4, "failover_whole_s": 0.4}
    gateway = start(broken.base(fault), way, limits=limits)
    answer = gateway.ask(stream=stream)
    assert gateway.text(answer, stream=stream) == TEXT
    assert gateway.attempts(answer) == [("first", "timeout"), ("second", None)]


@ways
@streams
def test_a_silent_endpoint_costs_no_more_while_another_can_answer(
    start: Start, broken: BrokenProvider, stream: bool, way: str
) -> None:
    limits = {**LONG, "failover_s": 0.4, "failover_whole_s": 0.4}
    urls = [broken.base("silent"), broken.base("healthy")]
    gateway = start({"base_urls": urls}, way, limits=limits, execution={"fallbacks": {}})
    answers = [gateway.ask(stream=stream) for _ in range(3)]
    assert [gateway.text(answer, stream=stream) for answer in answers] == [TEXT] * 3
    assert len(broken.asked[urls[0]]) >= 1


@ways
@streams
def test_a_connection_that_is_refused_or_reset_goes_elsewhere(
    start: Start, stream: bool, way: str
) -> None:
    with elsewhere(Then.RESET) as slammed, elsewhere(Then.CLOSE) as shut:
        for url in (DEAD, slammed, shut):
            gateway = start(url, way)
            answer = gateway.ask(stream=stream)
            assert gateway.text(answer, stream=stream) == TEXT
            assert gateway.attempts(answer) == [*TWICE, ("second", None)]


@streams
def test_no_prompt_goes_where_a_certificate_is_not_to_be_trusted(
    start: Start, stream: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with broken_provider(tls=context) as untrusted:
        gateway = start(secure(untrusted))
        answer = gateway.ask(stream=stream)
    assert gateway.text(answer, stream=stream) == TEXT
    assert gateway.attempts(answer) == [*TWICE, ("second", None)]
    assert not any(untrusted.asked.values())


@pytest.mark.parametrize(
    ("greets", "failed"), [((Then.RESET,), TWICE), ((Then.STALL,), [("first", "timeout")])]
)
def test_a_handshake_that_fails_or_hangs_goes_elsewhere(
    start: Start, greets: tuple[Then, ...], failed: list[tuple[str, str]]
) -> None:
    with broken_provider(greets) as plain:
        gateway = start({"base_url": secure(plain), "connect_s": 0.5})
        answer = gateway.ask(stream=True)
    assert gateway.text(answer, stream=True) == TEXT
    assert gateway.attempts(answer) == [*failed, ("second", None)]


def secure(provider: BrokenProvider) -> str:
    return provider.base("healthy").replace("http:", "https:")


@ways
@streams
def test_a_connection_that_went_stale_costs_nobody_an_answer(
    start: Start, broken: BrokenProvider, stream: bool, way: str
) -> None:
    gateway = start(broken.base("stale"), way, execution={"fallbacks": {}})
    answers = [gateway.ask(stream=stream) for _ in range(4)]
    assert [gateway.text(answer, stream=stream) for answer in answers] == [TEXT] * 4


@ways
@streams
@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
    start: Start, broken: BrokenProvider, api: str, stream: bool, way: str
) -> None:
    upstream = {"api": "completions"} if api == "completions" else {}
    rules: dict[str, Any] = {"execution": {"fallbacks": {}}}
    gateway = start({"base_url": broken.base("twice"), **upstream}, way, upstream, **rules)
    read = APIS[api].streamed if stream else APIS[api].whole
    answers = [gateway.ask(stream=stream, api=api) for _ in range(4)]
    assert [read(answer.content).text for answer in answers] == [TEXT] * 4


@ways
@streams
@pytest.mark.parametrize("times", ["every2", "every3"])
def test_a_provider_that_flaps_costs_nobody_an_answer(
    start: Start, broken: BrokenProvider, times: str, stream: bool, way: str
) -> None:
    gateway = start(broken.base("server_error", times), way, execution={"fallbacks": {}})
    # So many that what the breaker remembers is full.
    answers = [gateway.ask(stream=stream) for _ in range(15)]
    assert [gateway.text(answer, stream=stream) for answer in answers] == [TEXT] * 15


@ways
def test_a_prefill_that_is_refused_costs_no_answer(
    start: Start, broken: BrokenProvider, way: str
) -> None:
    url = broken.base("no_prefill")
    second = {"base_url": url, "prefill": True}
    gateway = start(broken.base("cut_in_middle"), way, second)
    answer = gateway.ask(stream=True)
    assert gateway.text(answer, stream=True) == TEXT
    roles = [asked.body["messages"][-1]["role"] for asked in broken.asked[url]]
    assert roles == ["assistant", "user"], "first it was asked to go on, then to begin anew"
    assert gateway.verified().faults == ()


@ways
@streams
def test_an_expert_that_keeps_failing_is_left_alone(
    start: Start, broken: BrokenProvider, stream: bool, way: str
) -> None:
    url = broken.base("server_error")
    gateway = start(url, way, breaker={"open_s": 60})
    for _ in range(25):
        assert gateway.text(gateway.ask(stream=stream), stream=stream) == TEXT
    assert len(broken.asked[url]) == 5


@ways
def test_retries_of_many_requests_stay_within_their_budget(
    start: Start, broken: BrokenProvider, way: str
) -> None:
    url = broken.base("server_error")
    gateway = start(
        url,
        way,
        breaker={"failures": 1000, "window": 1000},
        execution={"fallbacks": {}, "retries_per_s": 0.2, "retry_ratio": 0.1, "backoff_s": 0.001},
    )
    asked = 30
    statuses = [gateway.ask(stream=False).status_code for _ in range(asked)]
    assert statuses == [502] * asked
    # Ten seconds' worth at the beginning, a tenth of a retry per request, and what time gives.
    assert asked < len(broken.asked[url]) < asked + 10


@ways
@streams
def test_a_pause_longer_than_anybody_waits_is_told_at_once(
    start: Start, broken: BrokenProvider, stream: bool, way: str
) -> None:
    url = broken.base("limited_long")
    gateway = start(url, way, execution={"fallbacks": {}})
    answer = gateway.ask(stream=stream)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3600")
    again = gateway.ask(stream=stream)
    assert again.status_code in (429, 503)
    assert len(broken.asked[url]) == 1, "it is left alone for a minute"


@ways
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ["slowly", "cut_late"])
def test_a_stream_that_has_begun_in_time_may_go_on(
    start: Start, broken: BrokenProvider, fault: str, api: str, way: str
) -> None:
    upstream = {"api": "completions"} if api == "completions" else {}
    first = {"base_url": broken.base(fault), **upstream}
    gateway = start(first, way, upstream, limits={**LONG, "total_s": 1.8})
    answer = gateway.ask(stream=True, api=api)
    heard = APIS[api].streamed(answer.content)
    assert (heard.error, heard.text) == (None, TEXT)
    assert gateway.verified().faults == ()


@ways
@pytest.mark.parametrize(
    ("limits", "wishes"),
    [({"stream_s": 1.8}, {}), ({}, {"max_latency_ms": 1800})],
    ids=["limit", "wish"],
)
def test_not_for_ever_nor_for_longer_than_its_client_wishes(
    start: Start, broken: BrokenProvider, limits: dict[str, Any], wishes: dict[str, Any], way: str
) -> None:
    total = {"total_s": 1.6 if limits else 2.4}
    gateway = start(broken.base("slowly"), way, limits={**LONG, **total, **limits})
    answer = gateway.ask(stream=True, pointsman=wishes)
    heard = APIS["chat"].streamed(answer.content)
    assert heard.error is not None
    assert heard.error["code"] == "upstream_timeout"


@ways
@streams
@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_does_not_end_is_ended(
    start: Start, broken: BrokenProvider, api: str, stream: bool, way: str
) -> None:
    second = {"api": "completions"} if api == "completions" else {}
    rules = {"execution": {"max_retries": 1}, "limits": {**LONG, "max_answer_bytes": 20_000}}
    gateway = start(DEAD, way, {"base_url": broken.base("babbling"), **second}, **rules)
    answer = gateway.ask("second", stream=stream, api=api)
    if stream:
        heard = APIS[api].streamed(answer.content)
        assert heard.error is not None
        assert "does not end" in heard.error["message"]
        assert len(heard.text) < 40_000
    else:
        assert answer.status_code == 502
        assert APIS[api].error(answer.content)["code"] == "upstream_protocol"
    assert gateway.verified().faults == ()


@ways
@streams
@pytest.mark.parametrize("api", APIS)
def test_a_client_that_leaves_ends_the_call(
    start: Start, broken: BrokenProvider, api: str, stream: bool, way: str
) -> None:
    upstream = {"api": "completions"} if api == "completions" else {}
    url = broken.base("silent_in_middle")
    gateway = start(DEAD, way, {"base_url": url, **upstream})
    body = orjson.dumps({"model": "second", **APIS[api].body(stream=stream)})
    head = (
        f"POST {APIS[api].path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", httpx2.URL(gateway.url).port or 0)) as client:
        client.sendall(head.encode() + body)
        assert broken.stalled.wait(timeout=30)
    assert broken.left.wait(timeout=30), "the call upstream went on"
    assert gateway.verified().faults == ()
