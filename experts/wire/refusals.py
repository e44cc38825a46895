"""An error answer of an OpenAI-compatible provider to the kind of failure that it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from experts.errors import (
    ExpertAuthError,
    ExpertCallError,
    ExpertContextError,
    ExpertFilteredError,
    ExpertNotFoundError,
    ExpertQuotaError,
    ExpertRateLimitedError,
    ExpertRejectedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.messages import Json

_MAX_ERROR_CHARS = 500
_MAX_PARAM_CHARS = 100

_BY_CODE: Mapping[str, type[ExpertCallError]] = {
    "context_length_exceeded": ExpertContextError,
    "exceed_context_size_error": ExpertContextError,
    "request_too_large": ExpertContextError,
    "string_above_max_length": ExpertContextError,
    "content_filter": ExpertFilteredError,
    "content_policy_violation": ExpertFilteredError,
    "model_not_found": ExpertNotFoundError,
    "insufficient_quota": ExpertQuotaError,
    "billing_hard_limit_reached": ExpertQuotaError,
    "rate_limit_exceeded": ExpertRateLimitedError,
    "rate_limit_error": ExpertRateLimitedError,
    "overloaded_error": ExpertUnavailableError,
    "server_error": ExpertUnavailableError,
    "invalid_request_error": ExpertRejectedError,
    "authentication_error": ExpertAuthError,
    "billing_error": ExpertQuotaError,
    "not_found_error": ExpertNotFoundError,
    "timeout_error": ExpertTimeoutError,
    "permission_error": ExpertAuthError,
}

_BY_STATUS: Mapping[int, type[ExpertCallError]] = {
    401: ExpertAuthError,
    402: ExpertQuotaError,
    403: ExpertAuthError,
    404: ExpertNotFoundError,
    405: ExpertNotFoundError,
    408: ExpertTimeoutError,
    409: ExpertUnavailableError,
    410: ExpertNotFoundError,
    413: ExpertContextError,
    425: ExpertUnavailableError,
    429: ExpertRateLimitedError,
    504: ExpertTimeoutError,
}

# vLLM, llama.cpp and others say in words only what OpenAI has a code for.
_TOO_LONG = re.compile(
    r"(maximum|max) context (length|window)|context (length|size|window) (is )?exceed"
    r"|exceeds? the (available |model'?s )?(maximum )?context|prompt is too long"
    r"|input (is )?too long|too many (input )?tokens",
    re.IGNORECASE,
)


def refusal(
    expert_id: str, status: int, headers: Mapping[str, str], content: bytes
) -> ExpertCallError:
    """The failure behind an answer with an error status."""
    data = _data_of(content)
    message, code = error_fields(data)
    kind = _kind(status, code, message)
    if kind is ExpertContextError:
        # Whatever the provider calls it, clients act on this code.
        code = "context_length_exceeded"
    if kind is ExpertAuthError:
        # The provider's own words often quote the end of the key.
        message = f"the provider refused our credentials (status {status})"
    return kind(
        expert_id,
        message or f"answered with status {status}",
        status=status,
        code=code,
        param=_param_of(data) if issubclass(kind, ExpertRejectedError) else None,
        retry_after_s=retry_after_s(headers),
    )


FAILED_ENDS = frozenset({"error", "abort"})
"""What OpenRouter, vLLM and SGLang give as `finish_reason` of an answer that they could not end."""


def failure_in_answer(expert_id: str, data: Json) -> ExpertCallError | None:
    """The failure that an answer or a chunk tells of, by an `error` object or by how it ended."""
    if data.get("error") or data.get("type") == "error":
        return error_in_answer(expert_id, data)
    choices = data.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        end = choice.get("finish_reason") if isinstance(choice, dict) else None
        if isinstance(end, str) and end in FAILED_ENDS:
            return ExpertUnavailableError(expert_id, f"could not end its answer ({end})")
    return None


def error_in_answer(expert_id: str, data: Json) -> ExpertCallError:
    """The failure behind an `error` object that came with a good status, or within a stream."""
    message, code = error_fields(data)
    error = data.get("error")
    number = error.get("code") if isinstance(error, dict) else None
    status = number if isinstance(number, int) and 400 <= number <= 599 else 500
    kind = _kind(status, code, message)
    if kind is ExpertAuthError:
        message = "the provider refused our credentials"
    return kind(expert_id, message or "sent an error in place of an answer", code=code)


def _kind(status: int, code: str | None, message: str) -> type[ExpertCallError]:
    """Status before code before words; words only where the request may be at fault."""
    found = _BY_CODE.get(code or "")
    if status == 429:
        return ExpertQuotaError if found is ExpertQuotaError else ExpertRateLimitedError
    if status in (400, 404, 413, 422) and found and issubclass(found, _SPEAKS_OF_REQUEST):
        if found is ExpertRejectedError and _TOO_LONG.search(message):
            return ExpertContextError
        return found
    if status in (400, 422):
        return ExpertContextError if _TOO_LONG.search(message) else ExpertRejectedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return found if found and status == 500 else ExpertUnavailableError
    return ExpertRejectedError


_SPEAKS_OF_REQUEST = (ExpertRejectedError, ExpertNotFoundError, ExpertQuotaError)


def _data_of(content: bytes) -> Json:
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _param_of(data: Json) -> str | None:
    """The field that OpenAI and others name beside their words."""
    error = data.get("error") or data
    param = error.get("param") if isinstance(error, dict) else None
    return param[:_MAX_PARAM_CHARS] if isinstance(param, str) and param else None


def error_fields(data: Json) -> tuple[str, str | None]:
    """Message and code of an error object, in any of the shapes that providers use."""
    error = data.get("error") or data.get("detail") or data
    if not isinstance(error, dict):
        return _words(error), None
    code = next((v for v in (error.get("code"), error.get("type")) if isinstance(v, str)), None)
    return _words(error.get("message")), code


def _words(said: Any) -> str:
    """What is said, however it is packed; a bare number or truth value says nothing."""
    if isinstance(said, dict | list) and said:
        said = orjson.dumps(said).decode()
    return said[:_MAX_ERROR_CHARS] if isinstance(said, str) else ""


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait as `retry-after-ms` or `retry-after` (seconds or an HTTP date) say it.

    Args:
        headers: Of the answer, names in lower case or case-insensitive.
        now: For tests; the time that a date is compared with.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit_s
        except ValueError:
            until = _date_of(text)
            if until is None:
                continue
            seconds = (until - (now or datetime.now(UTC))).total_seconds()
        # NaN and infinities are no advice.
        if seconds - seconds == 0:
            return max(0.0, seconds)
    return None


def _date_of(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
