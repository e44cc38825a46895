"""What must come of every fault. Data; nothing here looks at the product.

`KINDS` says the same as `docs/execution.md` and is written by hand, so that a slip in the product's
own table is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Kind:
    """What may be done about a kind of failure, and how it is told: as in the docs."""

    same: bool
    other: bool
    status: int
    code: str


KINDS = {
    "connection": Kind(True, True, 502, "upstream_unavailable"),
    "timeout": Kind(False, True, 504, "upstream_timeout"),
    "unavailable": Kind(True, True, 502, "upstream_unavailable"),
    "protocol": Kind(True, True, 502, "upstream_protocol"),
    "rate_limited": Kind(True, True, 429, "upstream_rate_limited"),
    "quota": Kind(False, True, 429, "upstream_quota"),
    "auth": Kind(False, False, 502, "upstream_auth"),
    "not_found": Kind(False, True, 502, "upstream_not_found"),
    "invalid_request": Kind(False, False, 400, "rejected_by_expert"),
    "context_length": Kind(False, True, 400, "context_length_exceeded"),
    "content_filter": Kind(False, False, 400, "content_filter"),
}

Told = Literal["connection", "timeout", "unavailable", "protocol", "rate_limited", "quota"]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes:
        fault: Its name in `experts.broken`.
        whole: The kind of failure if no stream was asked for; None: the answer is right.
        stream: The same for streams.
        begun: In a stream, some text was said before it broke.
        pause_s: What lies between the attempts at least.
        waits: It is noticed by a limit running out.
        counted: The provider's token counts come through in a stream; else they are ours.
        counted_whole: The same of an answer that is not streamed.
        code: The provider's own code, told to the client instead of ours.
        anthropic: Whether the same is expected of a provider of Anthropic's wire.
    """

    fault: str
    whole: str | None = None
    stream: str | None = None
    begun: bool = False
    pause_s: float = 0.0
    waits: bool = False
    counted: bool = True
    counted_whole: bool = True
    code: str | None = None
    anthropic: bool = True

    def kind(self, *, stream: bool) -> str | None:
        return self.stream if stream else self.whole


def both(fault: str, kind: str, **more: object) -> Row:
    """One that is the same whether streamed or not."""
    return Row(fault, kind, kind, **more)  # type: ignore[arg-type]


def streamed(fault: str, kind: str | None, **more: object) -> Row:
    """One that only streams know; the whole answer is right."""
    return Row(fault, None, kind, **more)  # type: ignore[arg-type]


ROWS = [
    Row("healthy"),
    # Before an answer.
    both("hang_up", "connection"),
    both("reset", "connection"),
    both("cut_head", "connection"),
    both("no_http", "connection"),
    both("bad_length", "connection"),
    both("silent", "timeout", waits=True),
    both("silent_in_head", "timeout", waits=True),
    both("silent_after_head", "timeout", waits=True),
    both("too_late", "timeout", waits=True),
    Row("late", waits=True),
    Row("interim_heads"),
    # In the middle of one.
    both("reset_in_middle", "protocol", begun=True),
    both("cut_in_middle", "protocol", begun=True),
    both("ended_in_middle", "protocol", begun=True),
    both("unframed_cut", "protocol", begun=True),
    both("cut_in_chunk_size", "protocol", begun=True),
    both("cut_in_character", "protocol", begun=True),
    both("cut_in_event", "protocol", begun=True),
    both("bad_chunk_size", "protocol", begun=True),
    both("too_long", "protocol", begun=True),
    both("silent_in_middle", "timeout", begun=True, waits=True),
    both("comments_in_middle", "timeout", begun=True, waits=True),
    streamed("empty_in_middle", "timeout", begun=True, waits=True, anthropic=False),
    both("silent_before_finish", "timeout", begun=True, waits=True),
    both("huge_event", "protocol"),
    Row("too_short", "protocol", None),
    # In place of one.
    both("web_page", "protocol"),
    both("empty", "protocol"),
    both("only_done", "protocol"),
    both("no_choices", "protocol", anthropic=False),
    both("broken_json", "protocol"),
    both("other_json", "protocol"),
    both("nested_deep", "protocol"),
    both("error_with_200", "unavailable", code="server_error"),
    both("bad_gzip", "protocol"),
    both("failed_end", "unavailable", begun=True, anthropic=False),
    both("redirect", "protocol"),
    both("no_content", "protocol"),
    both("not_modified", "protocol"),
    # Odd, but an answer.
    Row("gzipped"),
    Row("false_gzip"),
    Row("absurd_counts", counted=False, counted_whole=False),
    Row("no_counts", counted=False, counted_whole=False),
    Row("other_choice", anthropic=False),
    Row("unframed"),
    Row("closes"),
    Row("closes_unsaid"),
    Row("byte_by_byte"),
    Row("at_once"),
    Row("as_text"),
    Row("as_page"),
    Row("untyped"),
    Row("as_other"),
    Row("unstreamed"),
    Row("streamed_unasked"),
    Row("endless", "timeout", None, waits=True),
    # Streams.
    streamed("no_done", None),
    streamed("parted", None, anthropic=False),
    streamed("no_finish", "protocol", begun=True),
    streamed("no_usage", None, counted=False, anthropic=False),
    streamed("malformed_first", None),
    streamed("malformed_amid", None),
    streamed("malformed_last", None),
    streamed("lost_piece", "protocol", begun=True),
    streamed("in_messages", None, anthropic=False),
    streamed("repeated_end", None),
    streamed("text_after_end", None),
    streamed("crlf", None),
    streamed("cr", None),
    streamed("no_blank_lines", None),
    streamed("no_space", None),
    streamed("in_lines", None),
    streamed("bare_choices", None, anthropic=False),
    streamed("comments", None),
    streamed("joined_oddly", None),
    streamed("error_first", "unavailable", code="server_error"),
    streamed("error_in_middle", "unavailable", begun=True, code="server_error"),
    streamed("limited_first", "rate_limited", code="rate_limit_exceeded"),
    streamed("silent_after_finish", None, counted=False, waits=True),
    streamed("reset_after_finish", None, counted=False),
    streamed("silent_after_done", None, waits=True),
    # Refusals.
    both("bad_request", "invalid_request", code="invalid_request_error"),
    both("unprocessable", "invalid_request", code="invalid_request_error"),
    both("context_length", "context_length"),
    both("content_filter", "content_filter", anthropic=False),
    both("unauthorized", "auth", code="authentication_error"),
    both("payment_required", "quota", code="billing_error"),
    both("forbidden", "auth", code="permission_error"),
    both("not_found", "not_found", code="model_not_found", anthropic=False),
    both("request_timeout", "timeout", code="timeout_error"),
    both("too_large", "context_length"),
    both("limited", "rate_limited", pause_s=0.4, code="rate_limit_exceeded"),
    both("limited_seconds", "rate_limited", pause_s=1.0, code="rate_limit_exceeded"),
    both("limited_ms", "rate_limited", pause_s=0.4, code="rate_limit_exceeded"),
    both("limited_date", "rate_limited", pause_s=0.9, code="rate_limit_exceeded"),
    both("quota", "quota", code="insufficient_quota"),
    both("server_error", "unavailable", code="server_error"),
    both("bad_gateway", "unavailable", code="server_error"),
    both("unavailable", "unavailable", code="server_error"),
    both("unavailable_seconds", "unavailable", pause_s=1.0, code="server_error"),
    both("gateway_timeout", "timeout", code="timeout_error"),
    both("overloaded", "unavailable", code="overloaded_error"),
    both("server_page", "unavailable"),
    both("server_error_cut", "unavailable"),
    both("server_error_silent", "timeout", waits=True),
    both("server_error_huge", "unavailable"),
]
