"""Why an expert could not answer.

ExpertError
├── ExpertConfigError        it can't be built from what it was given
├── EngineStartError         a local engine did not come up
├── EngineMoveError          a local engine can't sleep, wake or stop as it was told
└── ExpertCallError          one call failed; `experts.taxonomy` says what may be tried next
    ├── ExpertConnectionError    refused, reset, or hung up before a byte of the answer
    ├── ExpertTimeoutError       too slow to connect, to start or to go on
    ├── ExpertUnavailableError   5xx, or an error in place of an answer
    ├── ExpertProtocolError      an answer that is none: cut stream, broken JSON, a web page
    ├── ExpertDivergedError      asked to go on with an answer, it gave another one
    ├── ExpertRateLimitedError   429; `.retry_after_s` if the provider said
    │   └── ExpertQuotaError         429 or 402, and waiting won't help: the account is used up
    ├── ExpertBusyError          all its slots are taken and its queue is full; not called
    ├── ExpertOutOfServiceError  it failed too often lately; not called
    ├── ExpertCapError           a composition may not spend more; not called
    ├── ExpertAuthError          our key is wrong (401, 403)
    ├── ExpertNotFoundError      the provider does not know the model or the path (404)
    └── ExpertRejectedError      the request itself is wrong for this expert (400, 422)
        ├── ExpertUnsupportedError   its wire format can't say what is asked; not called
        ├── ExpertContextError       too long for its window, or too large (413)
        └── ExpertFilteredError      its content filter refused
"""

from __future__ import annotations

from typing import Self


class ExpertError(Exception):
    """Base of all errors of this package."""


class ExpertConfigError(ExpertError, ValueError):
    """An expert can't be built from its configuration."""


class EngineStartError(ExpertError):
    """A local engine did not become ready."""


class EngineMoveError(ExpertError):
    """A local engine can't do what it was told in the state it is in, or refused to."""


class ExpertCallError(ExpertError):
    """One call to one expert failed.

    Attributes:
        kind: Its row in `experts.taxonomy.HANDLING`.
        expert_id: Whose call it was.
        status: HTTP status of the upstream answer, None if there was none.
        code: The provider's own error code, e.g. `context_length_exceeded`, or None.
        param: The field of the request at fault, by its name in chat completions or as the provider
            calls it, or None.
        retry_after_s: Seconds after which it may be asked again, if anybody said.
        spare: The expert has another endpoint that has not failed this request.
        hurried: Only the client's own wish for haste was not met, which says nothing of the expert.
    """

    kind = "call_failed"
    spare = False
    hurried = False

    def __init__(
        self,
        expert_id: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{expert_id}: {message}")
        self.expert_id = expert_id
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def within(self, expert_id: str) -> Self:
        """The failure as that of `expert_id`, which asked whoever failed; its own stays itself."""
        if expert_id == self.expert_id:
            return self
        return type(self)(
            expert_id,
            str(self),
            status=self.status,
            code=self.code,
            param=self.param,
            retry_after_s=self.retry_after_s,
        )


class ExpertConnectionError(ExpertCallError):
    """No connection, or one that ended before a byte of the answer."""

    kind = "connection"


class ExpertTimeoutError(ExpertCallError):
    """Too slow to connect, to send a first token, or between two tokens."""

    kind = "timeout"


class ExpertUnavailableError(ExpertCallError):
    """A 5xx, or an error object where an answer should be."""

    kind = "unavailable"


class ExpertProtocolError(ExpertCallError):
    """What came back is no answer: a stream cut before its end, or broken JSON."""

    kind = "protocol"


class ExpertDivergedError(ExpertCallError):
    """An answer begun again does not start like the part that was delivered already."""

    kind = "diverged"


class ExpertRateLimitedError(ExpertCallError):
    """The provider asks us to slow down."""

    kind = "rate_limited"


class ExpertQuotaError(ExpertRateLimitedError):
    """The account with the provider is used up."""

    kind = "quota"


class ExpertBusyError(ExpertCallError):
    """As many calls as it may have at once are under way, and enough others wait."""

    kind = "busy"


class ExpertOutOfServiceError(ExpertCallError):
    """It failed too often lately, so it is left alone for a while."""

    kind = "out_of_service"


class ExpertCapError(ExpertCallError):
    """The caps on what a composition may come to leave no room for the call."""

    kind = "over_cap"


class ExpertAuthError(ExpertCallError):
    """The provider does not know our key, or won't let it do this."""

    kind = "auth"


class ExpertNotFoundError(ExpertCallError):
    """The provider does not have what the configuration names."""

    kind = "not_found"


class ExpertRejectedError(ExpertCallError):
    """The expert understood and refused: the request is wrong."""

    kind = "invalid_request"


class ExpertUnsupportedError(ExpertRejectedError):
    """The expert's wire format has no words for what is asked; another one may."""

    kind = "unsupported"


class ExpertContextError(ExpertRejectedError):
    """Prompt and answer don't fit; an expert with a larger window may take them."""

    kind = "context_length"


class ExpertFilteredError(ExpertRejectedError):
    """The provider's content filter refused the request."""

    kind = "content_filter"
