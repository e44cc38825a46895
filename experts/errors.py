"""Why an expert could not answer.

ExpertError
├── ExpertConfigError        it can't be built from what it was given
├── EngineStartError         a local engine did not come up
└── ExpertCallError          one call failed; `.retry` says what may be tried next
    ├── ExpertTimeoutError       too slow to connect, to start or to go on
    ├── ExpertRateLimitedError   429; `.retry_after_s` if the provider said
    ├── ExpertUnavailableError   refused, reset, 5xx
    ├── ExpertRejectedError      the request itself is wrong for this expert (400, 404, 413, 422)
    ├── ExpertAuthError          our key is wrong (401, 403)
    └── ExpertProtocolError      an answer that is none: cut stream, broken JSON
"""

from __future__ import annotations

from enum import Enum


class Retry(Enum):
    """What may be tried after a failed call."""

    OTHER_EXPERT = "other_expert"
    """This expert can't just now; another one may."""
    NEVER = "never"
    """The request is at fault: every expert would refuse it."""


class ExpertError(Exception):
    """Base of all errors of this package."""


class ExpertConfigError(ExpertError, ValueError):
    """An expert can't be built from its configuration."""


class EngineStartError(ExpertError):
    """A local engine did not become ready."""


class ExpertCallError(ExpertError):
    """One call to one expert failed.

    Attributes:
        expert_id: Whose call it was.
        status: HTTP status of the upstream answer, None if there was none.
        code: The provider's own error code, e.g. `context_length_exceeded`, or None.
    """

    kind = "call_failed"
    retry = Retry.OTHER_EXPERT

    def __init__(
        self, expert_id: str, message: str, *, status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(f"{expert_id}: {message}")
        self.expert_id = expert_id
        self.message = message
        self.status = status
        self.code = code


class ExpertTimeoutError(ExpertCallError):
    """Too slow to connect, to send a first token, or between two tokens."""

    kind = "timeout"


class ExpertRateLimitedError(ExpertCallError):
    """The provider asks us to slow down."""

    kind = "rate_limited"

    def __init__(
        self,
        expert_id: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(expert_id, message, status=status, code=code)
        self.retry_after_s = retry_after_s


class ExpertUnavailableError(ExpertCallError):
    """Connection refused or reset, or a 5xx."""

    kind = "unavailable"


class ExpertRejectedError(ExpertCallError):
    """The expert understood and refused: the request is wrong, too long, or not for it."""

    kind = "rejected"

    @property
    def retry(self) -> Retry:  # type: ignore[override]
        """Another expert may have a larger window; anything else is the client's to mend."""
        return Retry.OTHER_EXPERT if self.code in _OTHERS_MAY else Retry.NEVER


_OTHERS_MAY = {"context_length_exceeded", "exceed_context_size_error", "model_not_found"}


class ExpertAuthError(ExpertCallError):
    """The provider does not know our key, or won't let it do this."""

    kind = "auth"


class ExpertProtocolError(ExpertCallError):
    """What came back is no answer: a stream cut before its end, or broken JSON."""

    kind = "protocol"
