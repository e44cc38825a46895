from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import GraderConfigError
from eval.graders.checks import grade, parse_check
from eval.graders.wording import normal

PARIS = {"kind": "mentions", "answers": ["Paris", "City of Light"], "not": ["London", "Lyon"]}
MOOD = {"kind": "label", "answer": "positive", "labels": ["positive", "negative", "neutral"]}
SPAM = {"kind": "label", "answer": "not spam", "labels": ["spam", "not spam"]}


@pytest.mark.parametrize(
    ("wanted", "answer", "score"),
    [
        (["Paris"], "paris", 1),
        (["Paris"], "  Paris.  ", 1),
        (["Paris"], '"Paris"', 1),
        (["Paris"], "**Paris**", 1),
        (["Beatles"], "The Beatles", 1),
        (["The Beatles"], "beatles", 1),
        (["well-known"], "Well known", 1),
        (["straße"], "STRASSE", 1),
        (["Paris", "Lutetia"], "lutetia!", 1),
        (["A"], "A", 1),
        (["A"], "a.", 1),
        (["Paris"], "Paris, France", 0),
        (["Paris"], "It is Paris", 0),
        (["12"], "312", 0),
        (["5"], "-5", 0),
        (["3.5"], "35", 0),
        (["0.5"], ".5", 0),
        (["C"], "C++", 0),
        (["Vitamin"], "Vitamin A", 0),
        (["A"], "B", 0),
        (["Paris"], "", 0),
    ],
)
def test_exact_compares_whole_answers(wanted: list[str], answer: str, score: float) -> None:
    assert grade(parse_check({"kind": "exact", "answers": wanted}), answer).score == score


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@pytest.mark.parametrize(
    ("fields", "answer", "score"),
    [
        (PARIS, "The capital is Paris.", 1),
        (PARIS, "It's the city of light", 1),
        (PARIS, "PARIS", 1),
        (PARIS, "Paris, not London", 1),
        (PARIS, "Paris, though some say it isn't Lyon", 1),
        (PARIS, "London", 0),
        (PARIS, "Paris or London", 0),
        (PARIS, "It is not Paris", 0),
        (PARIS, "Parisian", 0),
        (PARIS, "", 0),
        ({"answers": ["12"]}, "12 eggs", 1),
        ({"answers": ["12"]}, "It is 12.", 1),
        ({"answers": ["12"]}, "312", 0),
        ({"answers": ["12"]}, "12.5", 0),
        ({"answers": ["12"]}, "3.12", 0),
        ({"answers": ["12"]}, "-12", 0),
        ({"answers": ["12"]}, "12,000", 0),
        ({"answers": ["positive"]}, "not positive", 0),
        ({"answers": ["positive"]}, "This can't be considered positive", 0),
        ({"answers": ["positive"]}, "non-positive", 0),
        ({"answers": ["C"]}, "C++", 0),
        ({"answers": ["C++"]}, "Use C++.", 1),
        ({"answers": ["New York"]}, "New\nYork", 1),
    ],
)
def test_mentions_looks_for_whole_words(
    fields: dict[str, object], answer: str, score: float
) -> None:
    assert grade(parse_check({"kind": "mentions", **fields}), answer).score == score


@pytest.mark.parametrize(
    ("fields", "answer", "score"),
    [
        (MOOD, "positive", 1),
        (MOOD, "Sentiment: **Positive**.", 1),
        (MOOD, "It is positive. Clearly positive.", 1),
        (MOOD, "not negative but positive", 1),
        (MOOD, "negative", 0),
        (MOOD, "not positive", 0),
        (MOOD, "isn't really positive", 0),
        (MOOD, "positive or negative", 0),
        (MOOD, "positively", 0),
        (MOOD, "non-positive", 0),
        (MOOD, "great", 0),
        (MOOD, "", 0),
        (SPAM, "not spam", 1),
        (SPAM, "This is Not Spam.", 1),
        (SPAM, "spam", 0),
    ],
)
def test_label_wants_exactly_one_label(
    fields: dict[str, object], answer: str, score: float
) -> None:
    assert grade(parse_check(fields), answer).score == score


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "exact"}, "answers"),
        ({"kind": "exact", "answers": "Paris"}, "answers"),
        ({"kind": "exact", "answers": []}, "answers"),
        ({"kind": "exact", "answers": ["..."]}, "answers"),
        ({"kind": "exact", "answers": ["x"], "case": True}, "case"),
        ({"kind": "mentions", "answers": [""]}, "answers"),
        ({"kind": "mentions", "answers": ["Paris"], "not": ["paris"]}, "not"),
        ({"kind": "mentions", "answers": ["Paris"], "not": [3]}, "not"),
        ({"kind": "label", "labels": ["a", "b"]}, "answer"),
        ({"kind": "label", "answer": "c", "labels": ["a", "b"]}, "answer"),
        ({"kind": "label", "answer": "a", "labels": ["a"]}, "labels"),
        ({"kind": "label", "answer": "a", "labels": ["a", "A"]}, "labels"),
        ({"kind": "judge"}, "kind"),
        ({}, "kind"),
    ],
)
def test_a_malformed_check_names_the_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(GraderConfigError, match=f"check field '{field}'") as raised:
        parse_check(fields)
    assert raised.value.field == field
