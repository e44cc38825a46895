"""Log lines: their form, who may wait for them (nobody), and what is never in them."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import orjson
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.settings.logging import LoggingSettings
from gateway.telemetry.access_log import LOGGER, AccessLog
from gateway.telemetry.logs import Logs, dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.trip import Telemetry

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PLANTED = "planted-secret-value"
_log = logging.getLogger("tests.logs")


@contextmanager
def logged(**settings: Any) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = Logs(LoggingSettings(**settings), Redactor([PLANTED]), stream)
    logs.start()
    try:
        yield stream
    finally:
        logs.stop()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def fail(message: str) -> None:
    raise ValueError(message)


def test_a_line_is_one_object_with_its_exception() -> None:
    with logged() as stream:
        try:
            fail("broken\nhere")
        except ValueError:
            _log.exception("it %s", "failed")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"])
    assert (line["level"], line["logger"], line["message"]) == ("error", "tests.logs", "it failed")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: broken\nhere")


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_taken_out_of_messages_fields_and_exceptions(form: str) -> None:
    with logged(format=form) as stream:
        try:
            fail(f"no access with {PLANTED}")
        except ValueError:
            _log.exception("key %s", PLANTED, extra={"fields": {"model": PLANTED, "n": 3}})
    assert PLANTED not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 3


def test_text_that_others_wrote_never_makes_a_line_of_its_own() -> None:
    with logged(format="text") as stream:
        _log.warning("provider says: %s", "no\n2026-01-01 info gateway: all is well")
        try:
            fail("no\n2026-01-01 info gateway: all is well\x1b[2J\u20282026-01-01 info gateway: so")
        except ValueError:
            _log.exception("failed")
    told, failed, *trace = stream.getvalue().splitlines()
    assert told.endswith("no\\n2026-01-01 info gateway: all is well")
    assert failed.endswith(": failed")
    assert trace[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") and "\x1b" not in line for line in trace)
    assert trace[-1] == "  2026-01-01 info gateway: so"


def test_the_level_is_kept_and_given_back() -> None:
    before = logging.getLogger().level
    with logged(level="error") as stream:
        _log.warning("not this")
        _log.error("this")
    assert [line["message"] for line in lines(stream)] == ["this"]
    assert logging.getLogger().level == before


@pytest.mark.parametrize(("level", "said"), [("info", False), ("debug", True)])
def test_what_libraries_tell_has_lines_only_for_those_who_look_for_faults(
    level: str, said: bool, provider: FakeProvider
) -> None:
    with logged(level=level) as stream, httpx2.Client(timeout=60, trust_env=False) as client:
        client.get(f"{provider.url}/models")
        logging.getLogger("alembic.runtime.migration").info("Running upgrade 0001 -> 0002")
    said_by = {line["logger"] for line in lines(stream)}
    assert ("httpx2" in said_by, "alembic.runtime.migration" in said_by) == (said, said)


def test_nobody_waits_for_a_pipe_that_is_not_read() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        logs = Logs(LoggingSettings(max_queue=50), Redactor(), pipe)
        logs.start()
        written = threading.Event()

        def write() -> None:
            for _ in range(2_000):
                _log.warning("x" * 1_000)
            written.set()

        threading.Thread(target=write, daemon=True).start()
        assert written.wait(30)
        assert dropped_lines() > 1_000
        # Reading lets the writing thread come to its end.
        threading.Thread(target=_drain, args=(reading,), daemon=True).start()
        logs.stop()


def _drain(reading: int) -> None:
    while os.read(reading, 65_536):
        pass
    os.close(reading)


def access_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in lines(stream) if line["logger"] == LOGGER]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_every_request_has_a_line(one: Any, stream: bool) -> None:
    with logged() as log:
        answer = one.ask("small", "the prompt itself", stream=stream)
    (line,) = access_lines(log)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["decision_id"] == answer.headers["x-pointsman-decision-id"]
    assert (line["status"], line["error"], line["expert"]) == (200, None, "small")
    assert (line["key"], line["model"], line["stream"]) == ("anonymous", "small", stream)
    assert (line["input_tokens"], line["output_tokens"]) == (10, 2)
    assert line["cost_usd"] == pytest.approx(1.4e-5)
    assert 0 < line["first_token_ms"] <= line["total_ms"]
    assert 0 < line["upstream_ms"] < line["total_ms"]
    assert "the prompt itself" not in log.getvalue()


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (Reply(status=400, error={"message": "no"}), 400, "rejected_by_expert"),
        (Reply(status=500), 502, "upstream_unavailable"),
    ],
    ids=["400", "500"],
)
def test_a_failed_request_says_why(
    one: Any, provider: FakeProvider, reply: Reply, status: int, error: str
) -> None:
    provider.otherwise = reply
    with logged() as log:
        one.ask("small")
    (line,) = access_lines(log)
    assert (line["status"], line["error"], line["expert"]) == (status, error, "none")


def test_a_refused_request_has_a_line_too(one: Any) -> None:
    with logged() as log:
        one.client.post("/v1/chat/completions", content=b"{", headers={"x-request-id": "mine"})
    (line,) = access_lines(log)
    assert (line["request_id"], line["status"]) == ("mine", 400)
    assert "decision_id" not in line


def test_lines_over_the_limit_are_counted_instead() -> None:
    access = AccessLog(3)
    trip = Telemetry(Metrics(), Redactor(), AccessLog(0)).begin("openai.chat", {})
    with logged() as log:
        for _ in range(10):
            access.write(trip, 200, None, "small", None)
        trip.ended += 1
        access.write(trip, 200, None, "small", None)
    assert len(access_lines(log)) == 4
    assert access.suppressed == 7


def test_no_access_lines_when_none_are_wanted() -> None:
    telemetry = Telemetry(Metrics(), Redactor(), AccessLog(0))
    with logged() as log:
        telemetry.begin("openai.chat", {}).end(200)
    assert access_lines(log) == []
