"""Answers with another status than 200."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, NamedTuple

import orjson

from experts.broken.scene import FAULTS, JSON, Acts, Fault, Scene, fault, healthy
from experts.fakes.server import Then, chunk, head, whole

PAUSE_S = 0.4
"""How long a rate-limited client is told to wait, where it is told in milliseconds."""


class _Told(NamedTuple):
    """A status, its error as type, message and code, and headers."""

    status: int
    kind: str
    message: str
    code: str | None = None
    headers: Mapping[str, Any] = {}


_LIMITED = (429, "rate_limit_error", "too many requests", "rate_limit_exceeded")
_TOLD = {
    "bad_request": _Told(400, "invalid_request_error", "temperature must be at most 2"),
    "unprocessable": _Told(422, "invalid_request_error", "top_p must be a number"),
    "context_length": _Told(
        400,
        "invalid_request_error",
        "This model's maximum context length is 8 tokens",
        "context_length_exceeded",
    ),
    "content_filter": _Told(400, "invalid_request_error", "it was filtered", "content_filter"),
    "unauthorized": _Told(401, "authentication_error", "Incorrect API key provided: sk-1234"),
    "payment_required": _Told(402, "billing_error", "the credit is used up"),
    "forbidden": _Told(403, "permission_error", "no access to this model"),
    "not_found": _Told(404, "not_found_error", "there is no such model", "model_not_found"),
    "request_timeout": _Told(408, "timeout_error", "the request took too long"),
    "too_large": _Told(413, "request_too_large", "the request is too large"),
    "limited": _Told(*_LIMITED),
    "limited_seconds": _Told(*_LIMITED, {"retry-after": "1"}),
    "limited_ms": _Told(*_LIMITED, {"retry-after-ms": round(PAUSE_S * 1000)}),
    "limited_long": _Told(*_LIMITED, {"retry-after": "3600"}),
    "quota": _Told(429, "insufficient_quota", "you exceeded your quota", "insufficient_quota"),
    "server_error": _Told(500, "server_error", "out of memory"),
    "bad_gateway": _Told(502, "server_error", "no backend"),
    "unavailable": _Told(503, "server_error", "loading the model"),
    "unavailable_seconds": _Told(
        503, "server_error", "loading the model", None, {"retry-after": "1"}
    ),
    "gateway_timeout": _Told(504, "timeout_error", "the backend took too long"),
    "overloaded": _Told(529, "overloaded_error", "overloaded"),
}


def _refusal(name: str, told: _Told) -> Fault:
    def acts(scene: Scene) -> Acts:
        error = scene.error(told.kind, told.message, told.code)
        yield whole(told.status, error, told.headers)

    acts.__name__ = name
    return acts


for _name, _it in _TOLD.items():
    FAULTS[_name] = _refusal(_name, _it)


@fault
def limited_date(scene: Scene) -> Acts:
    """Too many requests; when to come back is said as a date."""
    # Dates have no fractions of a second: the one told is one to two seconds away.
    then = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    headers = {"retry-after": format_datetime(then, usegmt=True)}
    yield whole(429, scene.error(*_LIMITED[1:]), headers)


@fault
def server_page(scene: Scene) -> Acts:
    """A proxy's own page for a backend that is gone."""
    page = b"<html><body>502 Bad Gateway</body></html>"
    yield head(502, {"content-type": "text/html"}, len(page)) + page


@fault
def server_error_cut(scene: Scene) -> Acts:
    """An error whose body is cut off."""
    data = orjson.dumps(scene.error("server_error", "out of memory"))
    yield head(500, {"content-type": JSON}, len(data)) + data[:10]
    yield Then.CLOSE


@fault
def server_error_silent(scene: Scene) -> Acts:
    """An error whose body never comes."""
    yield head(500, {"content-type": JSON}, 100)
    yield Then.STALL


@fault
def server_error_huge(scene: Scene) -> Acts:
    """An error whose body has no end."""
    yield head(500, {"content-type": JSON}, None)
    while True:
        yield chunk(b"x" * 4000)
        yield 0.001


@fault
def redirect(scene: Scene) -> Acts:
    """Another address, which may be anybody's: nobody sends a prompt there."""
    yield head(307, {"location": "http://127.0.0.1:9/v1/chat/completions"}, 0)


@fault
def no_content(scene: Scene) -> Acts:
    """A success without an answer."""
    yield b"HTTP/1.1 204 No Content\r\n\r\n"


@fault
def not_modified(scene: Scene) -> Acts:
    """A status that has no body, whatever its headers say."""
    yield head(304, {}, 50)


@fault
def no_prefill(scene: Scene) -> Acts:
    """Only requests that end with the answer's beginning are refused."""
    messages = scene.asked.body.get("messages") or [{}]
    if messages[-1].get("role") == "assistant":
        error = scene.error("invalid_request_error", "the last message must be the user's")
        yield whole(400, error, {})
    else:
        yield from healthy(scene)
