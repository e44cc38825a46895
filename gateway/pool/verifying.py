"""Checks of `eval.graders` as verifiers of drafts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio.to_thread

from eval.errors import GraderConfigError
from eval.graders.base import Check
from eval.graders.checks import parse_check
from eval.graders.code import CodeCheck
from eval.graders.sandbox import Sandbox
from experts.messages import ChatRequest
from gateway.settings.outcomes import CheckFields, CodeSettings

_PASSED = 0.5


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether an answer passes a check that the configuration names."""

    check: Check

    async def verify(self, request: ChatRequest, text: str) -> bool | None:
        return await _passes(self.check, text)


class MeetsSchema:
    """Whether an answer meets the JSON schema that the client gave in `response_format`."""

    async def verify(self, request: ChatRequest, text: str) -> bool | None:
        wanted = request.params.get("response_format") or {}
        fields = {"kind": "json_schema", "schema": {"type": "object"}, "whole": True}
        if wanted.get("type") == "json_schema":
            schema = (wanted.get("json_schema") or {}).get("schema")
            fields["schema"] = schema
        elif wanted.get("type") != "json_object":
            return None
        try:
            check = parse_check(fields)
        except GraderConfigError:
            # A schema that no check can be made of says nothing of the answer.
            return None
        return await _passes(check, text)


def check_of(fields: CheckFields, code: CodeSettings) -> Check:
    """The check that `fields` describe; one that runs code gets where it may, if it may."""
    return bound(parse_check(fields), code)


def bound(check: Check, code: CodeSettings) -> Check:
    """A check that runs code gets where it may do so, if it may."""
    if not isinstance(check, CodeCheck) or not code.enabled:
        return check
    sandbox = Sandbox(code.timeout_s, code.memory_mb, strict=code.isolation == "required")
    return replace(check, sandbox=sandbox)


async def _passes(check: Check, text: str) -> bool | None:
    # Patterns, schemas and sandboxes take their time, and nobody else would be served meanwhile.
    grade = await anyio.to_thread.run_sync(check.grade, text)
    return None if grade.score is None else grade.score >= _PASSED
