"""Every error a client can see, and the one table from domain errors to HTTP.

GatewayError
├── ConfigError (ValueError)     a configuration that can't be used; the command line prints it
├── LedgerError                  the book can't be written or read
│   └── NothingToLearnError      it holds no scored answer of the kind asked for
└── ApiError                     an answer to the client: status, type, code, param
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from experts.errors import (
    EngineMoveError,
    EngineStartError,
    ExpertCallError,
    ExpertConfigError,
    ExpertError,
)
from experts.taxonomy import handling
from routers.errors import (
    ArtifactError,
    MissingExtraError,
    NoEligibleExpertError,
    RoutingError,
    TableError,
)


class GatewayError(Exception):
    """Base of all errors of this package."""


class ConfigError(GatewayError, ValueError):
    """The configuration can't be used; the message names file, key and value."""


class LedgerError(GatewayError):
    """The ledger can't be written or read just now."""


class NothingToLearnError(LedgerError):
    """The ledger holds no scored answer that fits."""


class ApiError(GatewayError):
    """What the client gets instead of an answer.

    Attributes:
        status: HTTP status.
        message: One sentence that says what to do.
        type: OpenAI's error type.
        code: A short machine-readable code, or None.
        param: The field of the request at fault, or None.
        headers: Extra response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the wire's word
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class AllExpertsFailedError(GatewayError):
    """Every attempt failed.

    Attributes:
        causes: In the order they were tried, never empty.
        decision_id: Under which the ledger holds the attempts.
    """

    def __init__(self, causes: tuple[ExpertCallError, ...], decision_id: str) -> None:
        times = Counter(map(str, causes))
        said = (f"{cause} ({n} times)" if n > 1 else cause for cause, n in times.items())
        super().__init__("; ".join(said))
        self.causes = causes
        self.decision_id = decision_id


def too_hurried() -> ApiError:
    """What is said of a request whose client gave no time to ask anybody."""
    return ApiError(
        504,
        "pointsman.max_latency_ms: was over before anybody could be asked",
        type="server_error",
        code="deadline_exceeded",
        param="pointsman.max_latency_ms",
    )


STATUS: dict[type[Exception], tuple[int, str, str]] = {
    ExpertConfigError: (500, "server_error", "expert_config"),
    EngineStartError: (503, "server_error", "engine_not_running"),
    EngineMoveError: (409, "invalid_request_error", "engine_not_moved"),
    ExpertError: (502, "upstream_error", "upstream_error"),
    NoEligibleExpertError: (400, "invalid_request_error", "no_eligible_expert"),
    TableError: (400, "invalid_request_error", "unusable_outcomes"),
    ArtifactError: (500, "server_error", "router_artifact"),
    MissingExtraError: (500, "server_error", "missing_extra"),
    RoutingError: (500, "server_error", "routing_failed"),
    NothingToLearnError: (404, "invalid_request_error", "no_outcomes"),
    LedgerError: (503, "server_error", "ledger_unavailable"),
    ConfigError: (500, "server_error", "config"),
    GatewayError: (500, "server_error", "internal_error"),
}
"""Exception class to (status, OpenAI type, code); `experts.taxonomy` has the failed calls."""


def api_error(error: Exception) -> ApiError:
    """The answer to the client for any error of ours; unknown ones say nothing of their cause."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AllExpertsFailedError):
        return _all_failed(error)
    if isinstance(error, ExpertCallError):
        return _failed(error)
    for kind in type(error).__mro__:
        if kind in STATUS:
            status, type_, code = STATUS[kind]
            return ApiError(status, str(error), type=type_, code=_code(error, code))
    return ApiError(500, "internal error", type="server_error", code="internal_error")


def _failed(error: ExpertCallError) -> ApiError:
    row = handling(error)
    code = _code(error, row.code)
    failure = ApiError(row.status, str(error), type=row.type, code=code, param=error.param)
    if row.status in (429, 503):
        failure.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    return failure


def _all_failed(error: AllExpertsFailedError) -> ApiError:
    last = _refused(error.causes[-1]) or _failed(error.causes[-1])
    if len(error.causes) > 1:
        last = ApiError(
            last.status,
            str(error),
            type=last.type,
            code=last.code,
            param=last.param,
            headers=last.headers,
        )
    last.headers["x-pointsman-decision-id"] = error.decision_id
    return last


def _refused(error: BaseException | None) -> ApiError | None:
    """The refusal of ours that a call failed for inside a composition, if one is behind it."""
    while error is not None:
        if isinstance(error, ApiError):
            return ApiError(
                error.status,
                error.message,
                type=error.type,
                code=error.code,
                param=error.param,
                headers=error.headers,
            )
        # A failure told by who failed is its own cause.
        error = None if error.__cause__ is error else error.__cause__
    return None


def _code(error: Exception, otherwise: str) -> str:
    # A client that handles context_length_exceeded must get to see it.
    return getattr(error, "code", None) or otherwise
