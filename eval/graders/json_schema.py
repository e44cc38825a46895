"""Grades structured output by a JSON Schema, with bounded work whatever schema and answer are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, required
from eval.graders.json_object import documents

_LONGEST: Final = 20_000
_UNSUPPORTED: Final = (
    "$dynamicRef", "$recursiveRef", "$schema", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
"""Below the top."""
_LITERAL: Final = {"const", "default", "enum", "examples"}


@dataclass(frozen=True, slots=True)
class JsonSchemaCheck:
    """A JSON document in the answer conforms to `schema`.

    That is the answer if it is JSON as a whole, else any object or array in it; with `whole`, only
    the answer as a whole. Draft 2020-12, unless `$schema` names 2019-09 or 7. Patterns are RE2 and
    are looked for anywhere in a text. `format` says nothing, as the standard has it. References
    stay within the schema: nothing is fetched.
    """

    kind: ClassVar[str] = "json_schema"
    schema: Mapping[str, Any]
    whole: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"schema", "whole"})
        schema, whole = required(fields, "schema"), fields.get("whole", False)
        if not isinstance(schema, Mapping) or not schema:
            raise GraderConfigError("schema", f"must be an object with keys, got {schema!r}")
        if not isinstance(whole, bool):
            raise GraderConfigError("whole", f"must be true or false, got {whole!r}")
        schema = dict(schema)
        if fault := _fault(schema):
            raise GraderConfigError("schema", fault)
        return cls(schema, whole)

    def grade(self, answer: str) -> Grade:
        from eval.graders.schema_rules import CannotTellError, first_fault

        reason = "is not JSON" if self.whole else "holds no JSON object or array"
        for document in documents(answer, whole=self.whole):
            try:
                found = first_fault(self.schema, document)
            except CannotTellError as error:
                return Grade(None, str(error))
            if found is None:
                return right("conforms to the schema")
            reason = found
        return wrong(reason)


def _fault(schema: dict[str, Any]) -> str | None:
    """What keeps a schema from being used, and where; None if nothing does."""
    try:
        written = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        return f"no JSON: {error}"
    if len(written) > _LONGEST:
        return f"longer than {_LONGEST:,} characters"
    return _fault_of(written)


# The same schema comes with request after request.
@lru_cache(256)
def _fault_of(written: str) -> str | None:
    from eval.graders.schema_rules import CannotTellError, schema_fault

    schema = json.loads(written)
    below = {name: value for name, value in schema.items() if name != "$schema"}
    for name in _keywords(below):
        if name in _UNSUPPORTED:
            return f"{name} is not supported here"
    try:
        return schema_fault(schema)
    except RecursionError:
        return "nested too deeply"
    except CannotTellError as error:
        return str(error)


def _keywords(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            if name not in _LITERAL:
                yield from _keywords(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _keywords(inner)
