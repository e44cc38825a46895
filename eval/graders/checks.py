"""Every kind of check by its name; reads checks from data and grades answers with them."""

from __future__ import annotations

from typing import Final

from eval.errors import GraderConfigError
from eval.graders.base import Check, Fields, Grade
from eval.graders.code import CodeCheck
from eval.graders.exact import ExactCheck
from eval.graders.json_object import JsonCheck
from eval.graders.json_schema import JsonSchemaCheck
from eval.graders.label import LabelCheck
from eval.graders.mentions import MentionsCheck
from eval.graders.numeric import NumericCheck
from eval.graders.regex import RegexCheck

KINDS: Final[dict[str, type[Check]]] = {
    check.kind: check
    for check in (
        NumericCheck,
        ExactCheck,
        MentionsCheck,
        LabelCheck,
        RegexCheck,
        JsonCheck,
        JsonSchemaCheck,
        CodeCheck,
    )
}


def parse_check(mapping: Fields) -> Check:
    """Build a check from data such as `{"kind": "numeric", "answer": 42}`.

    Raises:
        GraderConfigError: The kind is unknown, or a field is missing, unknown or of a wrong type.
    """
    kind = mapping.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise GraderConfigError("kind", f"must be one of {', '.join(sorted(KINDS))}, got {kind!r}")
    return KINDS[kind].parse({name: mapping[name] for name in mapping if name != "kind"})


def grade(check: Check, answer_text: str) -> Grade:
    """Judge one answer; see `Grade`."""
    return check.grade(answer_text)
