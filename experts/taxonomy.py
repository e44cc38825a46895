"""What follows from each kind of failed call: one table, nothing else decides.

`docs/execution.md` shows the table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experts.errors import ExpertCallError, ExpertRateLimitedError, ExpertUnavailableError


@dataclass(frozen=True, slots=True)
class Handling:
    """What may be done about one kind of failure.

    Attributes:
        same: The same expert may be asked again.
        other: Another expert may be asked; `execution.fallback_on` can allow it where this doesn't.
        larger: Only an expert with a larger context window is worth asking.
        counts: It counts against the expert's breaker.
        status: HTTP status for the client when nothing else could be done.
        type: OpenAI's error type for the client.
        code: The error code for the client unless the provider gave one.
    """

    same: bool
    other: bool
    larger: bool
    counts: bool
    status: int
    type: str
    code: str


_UPSTREAM, _REQUEST, _RATE = "upstream_error", "invalid_request_error", "rate_limit_error"
_YES, _NO = True, False

HANDLING: Mapping[str, Handling] = {
    #                          same  other larger counts
    "connection": Handling(_YES, _YES, _NO, _YES, 502, _UPSTREAM, "upstream_unavailable"),
    "timeout": Handling(_NO, _YES, _NO, _YES, 504, _UPSTREAM, "upstream_timeout"),
    "unavailable": Handling(_YES, _YES, _NO, _YES, 502, _UPSTREAM, "upstream_unavailable"),
    "protocol": Handling(_YES, _YES, _NO, _YES, 502, _UPSTREAM, "upstream_protocol"),
    "diverged": Handling(_NO, _YES, _NO, _NO, 502, _UPSTREAM, "upstream_diverged"),
    "rate_limited": Handling(_YES, _YES, _NO, _NO, 429, _RATE, "upstream_rate_limited"),
    "quota": Handling(_NO, _YES, _NO, _NO, 429, _RATE, "upstream_quota"),
    "busy": Handling(_NO, _YES, _NO, _NO, 503, "server_error", "expert_busy"),
    "out_of_service": Handling(_NO, _YES, _NO, _NO, 503, "server_error", "expert_out_of_service"),
    "over_cap": Handling(_NO, _YES, _NO, _NO, 400, _REQUEST, "over_cap"),
    "auth": Handling(_NO, _NO, _NO, _NO, 502, _UPSTREAM, "upstream_auth"),
    "not_found": Handling(_NO, _YES, _NO, _NO, 502, _UPSTREAM, "upstream_not_found"),
    "invalid_request": Handling(_NO, _NO, _NO, _NO, 400, _REQUEST, "rejected_by_expert"),
    "unsupported": Handling(_NO, _YES, _NO, _NO, 400, _REQUEST, "unsupported_by_expert"),
    "context_length": Handling(_NO, _YES, _YES, _NO, 400, _REQUEST, "context_length_exceeded"),
    "content_filter": Handling(_NO, _NO, _NO, _NO, 400, _REQUEST, "content_filter"),
    "call_failed": Handling(_NO, _YES, _NO, _YES, 502, _UPSTREAM, "upstream_error"),
}


PAUSING = (ExpertRateLimitedError, ExpertUnavailableError)
"""Failures whose `retry-after` is heeded: the expert says when it will be able again."""


OF_A_PLACE = frozenset({"auth", "not_found", "quota"})
"""Kinds that may be one endpoint's alone: another of the same expert may know the key or the model,
or have the money."""


def handling(error: ExpertCallError) -> Handling:
    """The row of `error`'s kind."""
    return HANDLING[error.kind]
