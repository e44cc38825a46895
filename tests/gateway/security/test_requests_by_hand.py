"""Heads of requests that clients don't write, over real sockets: none opens what a key opens."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx2
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]
KEYS = [
    {"name": "root", "key": "root-key-1", "role": "admin"},
    {"name": "team", "key": "team-key-1"},
]
BODY = b'{"model": "a", "messages": [{"role": "user", "content": "Hi"}]}'


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def served(
    request: pytest.FixtureRequest, serve: Serve, remote: Remote, provider: FakeProvider
) -> Served:
    experts = {"a": remote("a", provider.url)}
    return serve(experts, keys=KEYS, server={"fast_path": request.param})


def sent(served: Served, first: str, *lines: str, body: bytes = b"") -> int:
    """The status of the answer to a request written by hand."""
    length = [f"content-length: {len(body)}"] if body else []
    head = "\r\n".join([first, *lines, *length, "connection: close", "", ""])
    port = httpx2.URL(served.url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.encode("latin-1") + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return int(answer.split(b" ")[1])


HOSTS = [
    "host: /health/live",
    "host: x/health/live?",
    "host: x/health/live#",
    "host: 127.0.0.1:80/metrics",
    "host: 127.0.0.1\\@x",
    "host: x\r\nhost: y",
    "host: ",
    "x-forwarded-host: 127.0.0.1/health/live",
    "x-forwarded-prefix: /health/live",
    "x-forwarded-path: /health/live",
    "x-original-url: /health/live",
    "x-rewrite-url: /health/live",
    "x-http-method-override: GET",
    "x-forwarded-for: 127.0.0.1",
    "forwarded: for=127.0.0.1;host=localhost",
    "x-real-ip: 127.0.0.1",
    "x-user: root",
    "x-api-key: ",
    "api-key: ",
    "api-key: team-key-1x",
    "authorization: Bearer ",
    "authorization: Bearer",
    "authorization: bearer null",
    "authorization: Basic Og==",
    "authorization: Basic !!!",
    "authorization: Bearer team-key-",
    "authorization: Bearer team-key-1x",
    "authorization: Bearer team-key-1,team-key-1",
    "authorization: Digest team-key-1",
    "authorization: Bearer *",
    "x-api-key: team-key-1\x00".replace("\x00", "%00"),
    "cookie: key=team-key-1",
]
TARGETS = [
    "/admin/config",
    "//admin/config",
    "/health/live/../../admin/config",
    "/health/live%2f..%2f..%2fadmin/config",
    "/health/live;/admin/config",
    "/health/live%00/admin/config",
    "/health/live?x=/admin/config#",
    "/admin/config?path=/health/live",
    "/admin/config#/health/live",
    "/admin/config/health/live",
    "/ADMIN/config",
    "/admin//config",
    "/./admin/config",
    "/%61dmin/config",
    "http://127.0.0.1/admin/config",
    "http://x/health/live/../../admin/config",
    "/v1/chat/completions?x=/health/live",
    "/v1/chat/completions#/health/live",
    "*",
]


ASKED = (
    ("POST /v1/chat/completions HTTP/1.1", BODY),
    ("GET /admin/config HTTP/1.1", b""),
    ("GET /v1/models HTTP/1.1", b""),
    ("GET /metrics HTTP/1.1", b""),
    ("GET / HTTP/1.1", b""),
)


def test_no_header_but_a_key_opens_anything(served: Served, provider: FakeProvider) -> None:
    for line in HOSTS:
        host = () if line.startswith("host") else ("host: 127.0.0.1",)
        for first, body in ASKED:
            assert sent(served, first, *host, line, body=body) in (400, 401), (first, line)
    assert provider.bodies == []
    key = "authorization: Bearer root-key-1"
    for first, body in ASKED:
        assert sent(served, first, "host: 127.0.0.1", key, body=body) == 200


def test_no_way_to_write_a_path_opens_another(served: Served, provider: FakeProvider) -> None:
    for target in TARGETS:
        live = target.split("?")[0].split("#")[0] == "/health/live"
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
            status = sent(served, f"{method} {target} HTTP/1.1", "host: 127.0.0.1")
            assert status in ((200, 400, 405) if live else (400, 401)), (method, target)
    assert provider.bodies == []


def test_a_callers_key_opens_nothing_of_the_operators(served: Served) -> None:
    team = ("host: 127.0.0.1", "authorization: Bearer team-key-1")
    for target in TARGETS:
        if "chat" in target or target in ("*",):
            continue
        status = sent(served, f"GET {target} HTTP/1.1", *team)
        assert status in (200, 400, 403, 404, 405), target
        if status == 200:
            assert target.split("?")[0] == "/health/live", target


def test_of_two_keys_the_first_counts_on_every_way(served: Served, provider: FakeProvider) -> None:
    """A proxy that checks one of them must not be checking another than we take."""
    bad, good = "authorization: Bearer nobody-1", "authorization: Bearer team-key-1"
    first = "POST /v1/chat/completions HTTP/1.1"
    assert sent(served, first, "host: 127.0.0.1", good, bad, body=BODY) == 200
    assert sent(served, first, "host: 127.0.0.1", bad, good, body=BODY) == 401
    assert len(provider.bodies) == 1
    for other in ("x-api-key", "api-key"):
        mixed = (f"{other}: team-key-1", bad)
        assert sent(served, first, "host: 127.0.0.1", *mixed, body=BODY) == 401


def test_of_two_wishes_the_first_counts_on_every_way(served: Served) -> None:
    first = "POST /v1/chat/completions HTTP/1.1"
    key = ("host: 127.0.0.1", "authorization: Bearer team-key-1")
    good, bad = "x-pointsman-policy: balanced", "x-pointsman-policy: none-such"
    body = BODY.replace(b'"a"', b'"auto"')
    assert sent(served, first, *key, good, bad, body=body) == 200
    assert sent(served, first, *key, bad, good, body=body) == 400


def test_a_websocket_is_refused(served: Served) -> None:
    upgrade = (
        "host: 127.0.0.1",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    for path in ("/admin/config", "/v1/chat/completions", "/"):
        assert sent(served, f"GET {path} HTTP/1.1", *upgrade) in (401, 403, 404)
