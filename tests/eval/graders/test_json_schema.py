"""Structured output conforms to a schema or it doesn't, and nobody's schema hangs the grader."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.errors import GraderConfigError
from eval.graders.checks import grade, parse_check
from eval.graders.schema_rules import first_fault

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
    },
    "patternProperties": {"^x-": {"type": "number"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def graded(schema: object, answer: str, **more: object) -> tuple[float | None, str]:
    found = grade(parse_check({"kind": "json_schema", "schema": schema, **more}), answer)
    return found.score, found.reason


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Ada", "age": 36}',
        'Here:\n```json\n{"name": "Ada", "age": 36.0, "x-y": 1.5}\n```',
        '[] then {"name": "Ada", "age": 0, "tags": ["a", "b"]}',
    ],
)
def test_what_conforms_is_right(answer: str) -> None:
    assert graded(PERSON, answer)[0] == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"name": "Ada", "age": "36"}', "$.age: '36' is not of type 'integer'"),
        ('{"name": "Ada", "age": true}', "$.age: True is not of type 'integer'"),
        ('{"name": "ada", "age": 1}', "$.name: 'ada' does not match '^[A-Z]'"),
        ('{"name": "Ada"}', "$: 'age' is a required property"),
        ('{"name": "Ada", "age": 1, "mood": 2}', "$: 'mood' is not among the properties"),
        ('{"name": "Ada", "age": 1, "x-y": "z"}', "$['x-y']: 'z' is not of type 'number'"),
        ('{"name": "Ada", "age": 1, "tags": ["a", "a"]}', '$.tags: "a" is there more than once'),
        ('{"name": "Ada", "age": 1, "tags": ["a", "c"]}', "$.tags[1]: 'c' is not one of"),
        ('{"person": {"name": "Ada", "age": 36}}', "$: "),
        ("Ada is 36", "holds no JSON object or array"),
        ('{"name": "Ada", "age": NaN}', "holds no JSON object or array"),
    ],
)
def test_what_does_not_is_wrong_and_told_where(answer: str, reason: str) -> None:
    score, told = graded(PERSON, answer)
    assert score == 0
    assert told.startswith(reason)


def test_the_whole_answer_may_be_asked_for() -> None:
    assert graded(PERSON, ' {"name": "Ada", "age": 36}\n', whole=True)[0] == 1
    assert graded(PERSON, 'So: {"name": "Ada", "age": 36}', whole=True) == (0, "is not JSON")
    assert graded({"type": "integer"}, "42")[0] == 1


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (None, "must be an object"),
        ({}, "must be an object"),
        ({"properties": {"a": {"type": "int"}}}, r"\$\.properties\.a\.type: 'int'"),
        ({"pattern": "(?=a)b"}, r"\$\.pattern: "),
        ({"patternProperties": {"(": {}}}, r"\$\.patternProperties: "),
        ({"$ref": "#/$defs/x"}, r"'#/\$defs/x' is not in the schema"),
        ({"$ref": "http://127.0.0.1:9/x"}, "nothing is fetched"),
        ({"$schema": "http://x"}, r"\$\.\$schema: 'http://x' is none of"),
        ({"items": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "is not supported"),
        ({"allOf": [{"$ref": "http://json-schema.org/draft-07/schema#"}]}, "nothing is fetched"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "required": 1}, r"\$\.required: 1"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties is not supported"),
        ({"title": "x" * 30_000}, "longer than"),
        ({"allOf": [{}] * 4900}, "too much work"),
        ({"const": {1, 2}}, "no JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: object, fault: str) -> None:
    with pytest.raises(GraderConfigError, match=f"check field 'schema': .*{fault}"):
        parse_check({"kind": "json_schema", "schema": schema})


@pytest.mark.parametrize("draft", ["2020-12/schema", "2019-09/schema", "07"])
def test_every_draft_is_bound_by_the_same_rules(draft: str) -> None:
    named = f"https://json-schema.org/draft/{draft}"
    if draft == "07":
        named = "http://json-schema.org/draft-07/schema#"
    schema = {"$schema": named, "items": {"pattern": "^(a+)+$"}}
    assert graded({**schema, "properties": {"a": {"$ref": "#"}}}, '["aaaa"]')[0] == 1
    long = '["' + "a" * 20_000 + 'b"]'
    assert graded({**schema, "properties": {"a": {"$ref": "#"}}}, f'{{"a": {long}}}')[0] == 0


def test_a_field_of_another_type_is_named() -> None:
    with pytest.raises(GraderConfigError, match="check field 'whole': must be true or false"):
        parse_check({"kind": "json_schema", "schema": PERSON, "whole": 1})


def doubling() -> dict[str, Any]:
    levels = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level - 1}"}] * 2} for level in range(40)
    }
    return {"$defs": {"l-1": {"type": "object"}, **levels}, "$ref": "#/$defs/l39"}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (doubling(), "{}"),
        ({"anyOf": [{"type": "null"}] * 900}, "[" + "0," * 40_000 + "0]"),
        ({"items": {"$ref": "#"}, "type": "array"}, "[" * 900 + "]" * 900),
        ({"type": "string", "pattern": "a"}, '"\\ud800"'),
        ({"multipleOf": 0.5}, "1" + "0" * 400),
    ],
    ids=["doubling", "long", "deep", "no text", "huge"],
)
def test_what_cannot_be_told_is_no_score(schema: dict[str, Any], answer: str) -> None:
    started = time.process_time()
    assert graded(schema, answer)[0] is None
    assert time.process_time() - started < 10


def test_no_pattern_and_no_long_list_hangs_it() -> None:
    long = '"' + "a" * 20_000 + '"'
    assert graded({"pattern": "^(a+)+$"}, long[:-1] + 'b"')[0] == 0
    many = "[" + ",".join(f'{{"a": {row}}}' for row in range(4_000)) + "]"
    assert graded({"uniqueItems": True}, many)[0] == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.sampled_from("abx"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner),
    max_leaves=6,
)
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "null"]),
        "properties": st.dictionaries(st.sampled_from("ab"), st.just({"type": "integer"})),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "x"]), st.just({"minimum": 0})),
        "additionalProperties": st.sampled_from([True, False, {"type": "string"}]),
        "uniqueItems": st.booleans(),
        "items": st.sampled_from([True, False, {"pattern": "^[ab]$"}]),
    },
)


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS, value=VALUES)
def test_it_says_what_the_library_says(schema: dict[str, Any], value: object) -> None:
    wanted = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (first_fault(schema, value) is None) == wanted
