"""Requests as no client should send them: refused or understood, one way on every layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from experts.cards import ExpertCard
from experts.fakes.scripted import ScriptedExpert, says
from tests.conftest import Serve, Served
from tests.gateway.raw import CHAT, chat, head, line, post

SECRET = "long-enough-secret"
KEYED = f"authorization: Bearer {SECRET}"


@pytest.fixture
def served(serve: Serve) -> Iterator[Served]:
    experts = {"a": ScriptedExpert(ExpertCard("a"), says("Hello"))}
    served = serve(experts, keys=[{"name": "k", "key": SECRET, "admin": True}])
    yield served
    answer = served.client.get("/v1/models", headers={"authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 200


BODY = chat()
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"


@pytest.mark.parametrize(
    "request_",
    [
        head(KEYED, LENGTH, CHUNKED) + CHUNK + b"0\r\n\r\n",
        head(KEYED, CHUNKED, LENGTH) + BODY,
        head(KEYED, LENGTH, "content-length: 5") + BODY,
        head(KEYED, "content-length: -1"),
        head(KEYED, "content-length: +5") + b"12345",
        head(KEYED, "content-length: 0x10") + BODY,
        head(KEYED, "content-length: 5, 5") + b"12345",
        head(KEYED, f"content-length: {2**70}"),
        head(KEYED, "transfer-encoding: chunked, identity") + CHUNK + b"0\r\n\r\n",
        head(KEYED, "transfer-encoding: xchunked") + CHUNK + b"0\r\n\r\n",
        head(KEYED, "content-length : 5") + b"12345",
        head(KEYED, " folded: yes", LENGTH) + BODY,
        head(KEYED, "na me: x", LENGTH) + BODY,
        head(KEYED, "x: a\0b", LENGTH) + BODY,
        head(KEYED, CHUNKED) + b"zz\r\n" + BODY,
        head(KEYED, CHUNKED) + b"-5\r\n12345\r\n0\r\n\r\n",
        head(KEYED, CHUNKED) + b"0x5\r\n12345\r\n0\r\n\r\n",
        head(KEYED, CHUNKED) + b"ffffffffffffffffff\r\n",
        head(KEYED, CHUNKED) + b"5\r\n1234567890\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0" * 100,
        head(KEYED, path="http://127.0.0.1", method="GET"),
        head(KEYED, path="127.0.0.1:443", method="CONNECT"),
        head(KEYED, path="/v1/mod\xffels", method="GET"),
    ],
)
def test_what_could_be_read_in_two_ways_is_a_400_and_the_end(
    served: Served, request_: bytes
) -> None:
    with line(served.url) as client:
        client.send(request_)
        status, headers, body = client.answer()
        assert status == 400, body
        assert headers["connection"] == "close"
        assert headers["x-request-id"].startswith("req-")
        assert b'"error"' in body
        assert client.closed()


def test_what_follows_a_body_is_a_request_of_its_own(served: Served) -> None:
    with line(served.url) as client:
        client.send(post(BODY, KEYED) + head(method="GET", path="/v1/models"))
        status, _, body = client.answer()
        assert (status, b"Hello" in body) == (200, True)
        assert client.status() == 401
    with line(served.url) as client:
        client.send(post(BODY, KEYED) + b"garbage\r\n\r\n")
        assert client.error() == (400, "bad_http")
        assert client.closed()


OPEN = "/health/live"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (CHAT, "127.0.0.1/health/live?"),
        (CHAT, "127.0.0.1/health/live#"),
        (CHAT, "127.0.0.1:80/health/live"),
        (CHAT, "x@127.0.0.1/health/live"),
        (CHAT, "/health/live"),
        (CHAT, "health/live?"),
        (CHAT, "[::1]/health/live"),
        (CHAT, "127.0.0.1\\health\\live"),
        (f"http://127.0.0.1{CHAT}", "127.0.0.1/health/live"),
        (f"http://x/health/live@127.0.0.1{CHAT}", "x"),
        (f"{OPEN}/..{CHAT}", "x"),
        (f"{OPEN}/%2e%2e/%2e%2e{CHAT}", "x"),
        (f"/{CHAT}", "x"),
        (f"{OPEN};{CHAT}", "x"),
        (f"{OPEN}%00{CHAT}", "x"),
        (f"{OPEN}%0d%0a{CHAT}", "x"),
        (f"{CHAT}?{OPEN}", "x"),
        (f"{CHAT}#{OPEN}", "x"),
        ("/admin/keys", "127.0.0.1/health/live?"),
        ("/metrics", "/health/ready?"),
    ],
)
def test_no_host_and_no_spelling_opens_a_route(served: Served, target: str, host: str) -> None:
    lines = [f"POST {target} HTTP/1.1", f"host: {host}", f"content-length: {len(BODY)}", "", ""]
    with line(served.url) as client:
        client.send("\r\n".join(lines).encode() + BODY)
        assert client.status() in (400, 401)


@pytest.mark.parametrize(
    "name", ["x-forwarded-host", "x-original-url", "x-rewrite-url", "forwarded"]
)
def test_no_header_of_proxies_opens_a_route(served: Served, name: str) -> None:
    with line(served.url) as client:
        client.send(post(BODY, f"{name}: /health/live"))
        assert client.status() == 401


@pytest.mark.parametrize(
    "hosts",
    [[], ["127.0.0.1"] * 2, ["127.0.0.1", "x/health/live?"], ["x y"], ["x/y"], ["x@y"], ["x\xe9"]],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, "/health/live"])
def test_a_request_has_one_host_that_could_be_one(
    served: Served, path: str, hosts: list[str]
) -> None:
    """On the fast path, behind a request whose head is remembered, and on the ordinary one."""
    lines = [f"POST {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), KEYED, LENGTH, "", ""]
    with line(served.url) as client:
        client.send(post(BODY, KEYED))
        assert client.status() == 200
        client.send("\r\n".join(lines).encode("latin-1") + BODY)
        assert client.error() == (400, "bad_http")
        assert client.closed()


@pytest.mark.parametrize("host", ["", "[::1]:8000", "a_b.example:80", "xn--bcher-kva.example"])
def test_every_host_that_could_be_one_is_heard(served: Served, host: str) -> None:
    lines = [f"POST {CHAT} HTTP/1.1", f"host: {host}", KEYED, LENGTH, "", ""]
    with line(served.url) as client:
        for _ in range(2):
            client.send("\r\n".join(lines).encode() + BODY)
            assert client.status() == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
@pytest.mark.parametrize(
    "request_",
    [
        "POST {path} HTTP/1.1\nhost: x\n{key}\n{length}\n\n",
        "POST {path} HTTP/1.1\r\nhost: x\n{key}\r\n{length}\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\n\n",
        "POST {path} HTTP/1.1\rhost: x\r{key}\r{length}\r\r",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx: a\rb\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx: a\r\n b\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx: a\r\n\tb: c\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx\0: a\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx: \0\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\n{length}\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\n: a\r\n\r\n",
        "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n{length}\r\nx\r\n\r\n",
    ],
)
def test_line_ends_and_characters_that_proxies_read_otherwise(
    served: Served, request_: str, path: str
) -> None:
    head_ = request_.format(path=path, key=KEYED, length=LENGTH).encode()
    with line(served.url) as client:
        client.send(post(BODY, KEYED))
        assert client.status() == 200
        client.send(head_ + BODY)
        assert client.error() == (400, "bad_http")
        assert client.closed()


def test_http_1_0_is_answered_and_closed(served: Served) -> None:
    with line(served.url) as client:
        client.send(head(KEYED, LENGTH, version="1.0") + BODY)
        status, _, body = client.answer()
        assert (status, b"Hello" in body) == (200, True)
        assert client.closed()


def test_a_stream_over_http_1_0_ends_with_its_connection(served: Served) -> None:
    body = chat(stream=True)
    with line(served.url) as client:
        client.send(head(KEYED, f"content-length: {len(body)}", version="1.0") + body)
        status, headers, rest = client.answer()
    assert status == 200
    assert "transfer-encoding" not in headers
    assert rest.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_refused_in_order(served: Served, method: str) -> None:
    with line(served.url) as client:
        client.send(head(KEYED, method=method))
        if method == "BREW":
            assert client.status() == 400
            return
        while b"\r\n\r\n" not in client.got:
            assert client.more()
        assert client.got.startswith(b"HTTP/1.1 405 ")


def test_an_offer_to_upgrade_is_passed_over(served: Served) -> None:
    """Java's client and curl's `--http2` make one with every first request."""
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    with line(served.url) as client:
        for _ in range(2):
            client.send(post(BODY, KEYED, *offer))
            status, _, body = client.answer()
            assert (status, b"Hello" in body) == (200, True)
        client.send(head(KEYED, CHUNKED, *offer) + CHUNK[:9])
        client.send(CHUNK[9:] + b"0\r\n\r\n" + head(KEYED, *offer, method="GET", path="/v1/models"))
        assert [client.status(), client.status()] == [200, 200]
        client.send(post(BODY, KEYED))
        assert client.status() == 200


def test_websockets_are_not_spoken(served: Served) -> None:
    offer = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    with line(served.url) as client:
        client.send(head(*offer, "sec-websocket-key: AAAA", method="GET"))
        assert client.status() == 401
