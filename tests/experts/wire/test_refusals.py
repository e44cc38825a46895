from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.wire.refusals import error_in_answer, refusal, retry_after_s

TOO_LONG = "This model's maximum context length is 2048 tokens. However, you requested 4000"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "bad temperature"}, "invalid_request"),
        (400, {"message": "x", "code": "context_length_exceeded"}, "context_length"),
        (400, {"message": TOO_LONG, "type": "BadRequestError", "code": 400}, "context_length"),
        (400, {"message": TOO_LONG, "type": "invalid_request_error"}, "context_length"),
        (400, {"message": "prompt is too long: 9 > 8"}, "context_length"),
        (400, {"message": "x", "code": "content_filter"}, "content_filter"),
        (401, {"message": "x"}, "auth"),
        (402, {"message": "x"}, "quota"),
        (403, {"message": "x"}, "auth"),
        (404, {"message": "x", "code": "model_not_found"}, "not_found"),
        (404, {"message": "Not Found"}, "not_found"),
        (405, {"message": "x"}, "not_found"),
        (408, {"message": "x"}, "timeout"),
        (409, {"message": "x"}, "unavailable"),
        (410, {"message": "x"}, "not_found"),
        (413, {"message": "x"}, "context_length"),
        (418, {"message": "x"}, "invalid_request"),
        (422, {"message": "x"}, "invalid_request"),
        (425, {"message": "x"}, "unavailable"),
        (429, {"message": TOO_LONG}, "rate_limited"),
        (429, {"message": "x", "code": "insufficient_quota"}, "quota"),
        (500, {"message": TOO_LONG}, "unavailable"),
        (502, {"message": "x"}, "unavailable"),
        (503, {"message": "x", "code": "model_not_found"}, "unavailable"),
        (504, {"message": "x"}, "timeout"),
        (529, {"message": "x", "type": "overloaded_error"}, "unavailable"),
    ],
)
def test_kinds(status: int, error: dict[str, Any], kind: str) -> None:
    found = refusal("e", status, {}, orjson.dumps({"error": error}))
    assert (found.kind, found.status) == (kind, status)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'"x"', b"null", b'{"error": "no"}'])
def test_a_body_that_is_no_error_object_still_has_its_status(content: bytes) -> None:
    found = refusal("e", 503, {}, content)
    assert found.kind == "unavailable"
    assert found.message in ("answered with status 503", "no")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x"}, "unavailable"),
        ({"message": "x", "code": 429}, "rate_limited"),
        ({"message": "x", "code": "context_length_exceeded"}, "context_length"),
        ({"message": "x", "type": "overloaded_error"}, "unavailable"),
        ("just words", "unavailable"),
    ],
)
def test_an_error_inside_an_answer_is_told_apart_too(error: Any, kind: str) -> None:
    assert error_in_answer("e", {"error": error}).kind == kind


@given(st.integers(400, 599), st.binary(max_size=80))
def test_whatever_is_sent_has_a_kind(status: int, content: bytes) -> None:
    assert refusal("e", status, {}, content).expert_id == "e"


def test_the_field_that_a_provider_names_is_told_of_wrong_requests_alone() -> None:
    error = {"message": "x", "param": "top_p"}
    for content in ({"error": error}, error):
        assert refusal("e", 400, {}, orjson.dumps(content)).param == "top_p"
    assert refusal("e", 500, {}, orjson.dumps({"error": error})).param is None
    for odd in (5, "", ["a"], None):
        assert refusal("e", 400, {}, orjson.dumps({"error": {**error, "param": odd}})).param is None
    long = orjson.dumps({"error": {**error, "param": "a" * 999}})
    assert refusal("e", 400, {}, long).param == "a" * 100


@pytest.mark.parametrize("secret_status", [401, 403])
def test_the_words_about_a_key_are_not_repeated(secret_status: int) -> None:
    content = orjson.dumps({"error": {"message": "bad key sk-secret"}})
    assert "sk-secret" not in str(refusal("e", secret_status, {}, content))


NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "Fri, 01 May 2026 12:00:09 GMT"}, 9),
        ({"retry-after": "Fri, 01 May 2026 11:00:00 GMT"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_advice_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("said", "told"),
    [(5, ""), (True, ""), ([{"loc": ["n"]}], '[{"loc":["n"]}]'), ({"a": 1}, '{"a":1}'), ("x", "x")],
)
def test_whatever_says_what_is_wrong_is_told_as_it_came(said: Any, told: str) -> None:
    assert error_in_answer("e", {"error": {"message": said}}).message in (
        told or "sent an error in place of an answer",
    )
