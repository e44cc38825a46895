from __future__ import annotations

import time

import pytest

from eval.errors import GraderConfigError
from eval.graders.checks import grade, parse_check


@pytest.mark.parametrize(
    ("pattern", "answer", "score"),
    [
        (r"\d{4}-\d{2}-\d{2}", "2024-05-01", 1),
        (r"\d{4}-\d{2}-\d{2}", "  2024-05-01\n", 1),
        (r"(?i)yes|no", "YES", 1),
        (r"[A-Z]{3}", "ABC", 1),
        (r"a.c", "abc", 1),
        (r"(?s)a.*c", "a\nb\nc", 1),
        (r"yes|no", "yes please", 0),
        (r"yes|no", "oh no", 0),
        (r"\d{4}-\d{2}-\d{2}", "It was 2024-05-01", 0),
        (r"[A-Z]{3}", "ABCD", 0),
        (r"a.c", "a\nc", 0),
        (r"x", "", 0),
    ],
)
def test_regex_matches_the_whole_answer(pattern: str, answer: str, score: float) -> None:
    assert grade(parse_check({"kind": "regex", "pattern": pattern}), answer).score == score


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"(a|a)*b", r"(.*.*.*.*)*x", r"a*a*a*a*a*b"])
def test_no_pattern_hangs_the_grader(pattern: str) -> None:
    check = parse_check({"kind": "regex", "pattern": pattern})
    started = time.process_time()
    assert grade(check, "a" * 20_000).score == 0
    assert time.process_time() - started < 2


def test_an_endless_answer_is_wrong_without_being_matched() -> None:
    assert grade(parse_check({"kind": "regex", "pattern": "a*"}), "a" * 200_000).score == 0


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"(a)\1", "", None, "[z-a]", ")("])
def test_a_pattern_that_cannot_run_is_refused(pattern: object) -> None:
    with pytest.raises(GraderConfigError, match="check field 'pattern'"):
        parse_check({"kind": "regex", "pattern": pattern})


def test_an_answer_that_is_no_valid_text_is_not_graded() -> None:
    found = grade(parse_check({"kind": "regex", "pattern": "a"}), "\ud800")
    assert found.score is None


NAME_AND_AGE = {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    ("equals", "answer", "score"),
    [
        (NAME_AND_AGE, '{"name": "Ada", "age": 36}', 1),
        (NAME_AND_AGE, 'Here:\n```json\n{"age": 36.0, "name": "Ada", "x": []}\n```', 1),
        (NAME_AND_AGE, '{} then {"name": "Ada", "age": 36}', 1),
        (NAME_AND_AGE, '{oops {"name": "Ada", "age": 36}', 1),
        ({"ok": True}, '{"ok": true}', 1),
        ({"x": None}, '{"x": null}', 1),
        ({"list": [1, {"a": 2}]}, '{"list": [1, {"a": 2}]}', 1),
        (NAME_AND_AGE, '{"name": "Ada", "age": "36"}', 0),
        (NAME_AND_AGE, '{"name": "ada", "age": 36}', 0),
        (NAME_AND_AGE, '{"name": "Ada"}', 0),
        (NAME_AND_AGE, '{"person": {"name": "Ada", "age": 36}}', 0),
        (NAME_AND_AGE, '[{"name": "Ada"}, {"age": 36}]', 0),
        (NAME_AND_AGE, "name: Ada, age: 36", 0),
        (NAME_AND_AGE, '{"name": "Ada", "age": 36', 0),
        ({"ok": True}, '{"ok": 1}', 0),
        ({"n": 1}, '{"n": true}', 0),
        ({"n": 1}, '{"n": NaN}', 0),
        ({"x": None}, "{}", 0),
        ({"list": [1, 2]}, '{"list": [1]}', 0),
        ({"": 1}, '{"": 2}', 0),
    ],
)
def test_json_object_has_the_wanted_values(
    equals: dict[str, object], answer: str, score: float
) -> None:
    assert grade(parse_check({"kind": "json", "equals": equals}), answer).score == score


@pytest.mark.parametrize("answer", ["{" * 100_000, '{"a":' * 50_000, "[" * 100_000 + "{"])
def test_hostile_json_is_wrong_and_quick(answer: str) -> None:
    started = time.process_time()
    assert grade(parse_check({"kind": "json", "equals": {"a": 1}}), answer).score == 0
    assert time.process_time() - started < 2


@pytest.mark.parametrize("equals", [None, {}, [], "x"])
def test_a_json_check_needs_keys(equals: object) -> None:
    with pytest.raises(GraderConfigError, match="check field 'equals'"):
        parse_check({"kind": "json", "equals": equals})
