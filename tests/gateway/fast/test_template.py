"""A head that was parsed holds for the next request with the same bytes, and for no other."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx2
import orjson
import pytest

from experts.fakes.provider import FakeProvider
from experts.http.heads import KnownHead, template_of

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nX-A: b\r\n\r\n"
RAW = [(b"host", b"h"), (b"content-length", b"2"), (b"x-a", b"b")]
TEXT = {"host": "h", "x-a": "b"}


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def learnt(head: bytes = HEAD) -> KnownHead:
    found = template_of(request(b"{}", head), RAW, TEXT)
    assert found is not None
    return found


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 99, b"\r\n\r\n", b"x" * 1000])
def test_the_same_head_before_a_body_of_any_length(body: bytes) -> None:
    assert learnt().body_of(request(body), 1000) == body


@pytest.mark.parametrize(
    "data",
    [
        request(b"{}").replace(b"X-A: b", b"X-A: c"),
        request(b"{}").replace(b"X-A: b", b"X-A: b\r\nX-B: c"),
        request(b"{}").replace(b"POST", b"post"),
        request(b"{}")[:-1],
        request(b"{}") + b"P",
        request(b"{}").replace(b": 2", b": +2"),
        request(b"{}").replace(b": 2", b": "),
        request(b"{}").replace(b": 2", b": 2 "),
        request(b"{}").replace(b": 2", b": 0x2"),
        request(b"x" * 1001),
        b"",
        b"POST",
    ],
)
def test_anything_else_is_parsed(data: bytes) -> None:
    assert learnt().body_of(data, 1000) is None


def test_a_head_with_two_lengths_is_not_remembered() -> None:
    assert template_of(request(b"{}"), [*RAW, (b"content-length", b"2")], TEXT) is None


@pytest.mark.parametrize(
    "data",
    [
        request(b"{}")[:-1],
        request(b"{}") * 2,
        request(b"{}", HEAD.replace(b"X-A: b", b"X-A: " + b"b" * 5000)),
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"no head",
    ],
    ids=["half", "two", "long", "chunked", "none"],
)
def test_what_is_not_worth_remembering(data: bytes) -> None:
    assert template_of(data, RAW, TEXT) is None


def test_one_connection_may_change_its_mind_about_everything(
    serve: Any, remote: Any, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)})
    port = httpx2.URL(served.url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:

        def ask(text: str, *more: str, model: str = "small") -> tuple[int, dict[str, str], Any]:
            body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
            lines = ["POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", *more]
            head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""])
            client.sendall(head.encode() + body)
            return answer(client)

        ids = []
        for text in ("a", "a", "bb", "ccc" * 50, "a"):
            status, headers, told = ask(text)
            assert (status, told["model"]) == (200, "small")
            ids.append(headers["x-pointsman-decision-id"])
        assert len(set(ids)) == 5
        assert ask("x", "x-request-id: mine")[1]["x-request-id"] == "mine"
        assert ask("x", "x-request-id: yours")[1]["x-request-id"] == "yours"
        assert ask("x", model="nobody")[0] == 404
        assert ask("x", "x-pointsman-policy: none", model="auto")[0] == 400
        assert ask("x", "x-pointsman-debug: true")[1]["x-pointsman-flags"] == "untrained"
        assert ask("x", "origin: http://evil.example")[0] == 403
        assert ask("x")[0] == 200
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert answer(client)[0] == 200
        assert ask("x")[0] == 200
    assert [body["messages"][0]["content"] for body in provider.bodies[:3]] == ["a", "a", "bb"]


def answer(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += client.recv(65536)
    return int(first.split()[1]), headers, orjson.loads(body)
