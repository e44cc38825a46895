"""The `limits` section: seconds and counts that bound one request."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.base import Frozen


class OwnLimitSettings(Frozen):
    """What an expert's entry may say in place of the section's seconds."""

    header_s: float | None = Field(None, gt=0)
    first_token_s: float | None = Field(None, gt=0)
    idle_s: float | None = Field(None, gt=0)
    whole_s: float | None = Field(None, gt=0)

    def within(self, limits: LimitSettings) -> LimitSettings:
        """The section with what is said here in its place."""
        return limits.model_copy(update=self.model_dump(exclude_none=True))


class LimitSettings(Frozen):
    """Seconds and counts that bound one request."""

    total_s: float = Field(120, gt=0)
    """Longest time until an answer that comes whole has ended, and until a stream has begun."""
    stream_s: float = Field(600, gt=0)
    """Longest time from a request until its stream has ended, if that began in time."""
    header_s: float = Field(25, gt=0)
    """Longest wait for the head of a streamed answer."""
    first_token_s: float = Field(25, gt=0)
    idle_s: float = Field(25, gt=0)
    whole_s: float = Field(100, gt=0)
    """Longest wait for an answer that is not streamed."""
    failover_s: float = Field(12, gt=0)
    failover_whole_s: float = Field(20, gt=0)
    """Longest silence of a stream, and longest wait for an answer that is not streamed, while
    another expert could be asked instead; three times what an expert usually takes if that is
    longer."""
    max_attempts: int = Field(4, ge=1, le=16)
    composed_calls: int = Field(64, ge=1, le=1024)
    """Calls of models that compositions may make for one request."""
    composed_depth: int = Field(4, ge=1, le=16)
    """How deep compositions may nest."""
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    max_bodies_bytes: int = Field(1024 * 1024 * 1024, ge=1024)
    """Memory for the bodies of all requests under way, as `gateway.server.bodies` reckons it."""
    max_answer_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    """Longest answer of an upstream; longest event, and most characters, of a streamed one."""

    @property
    def stream_more_s(self) -> float:
        """What a stream that has begun gets beyond `total_s`."""
        return max(0.0, self.stream_s - self.total_s)
