"""Which questions count as nearly the same, and which never do."""

from __future__ import annotations

import pytest

from experts.messages import Usage
from gateway.caching.entries import CacheEntry, encode
from gateway.caching.similar import question_of
from gateway.caching.store import AnswerStore
from routers.encoders.lexical import HashingEncoder

ENCODER = HashingEncoder(1024)
FILLER = " ".join(f"word{letter}{other}" for letter in "abcdefgh" for other in "abcdefgh")


def found(asked: str, known: str, threshold: float = 0.9) -> bool:
    store = AnswerStore(60, 10, 100_000, lambda: 0.0)
    kept, question = (question_of(text, b"around", ENCODER) for text in (known, asked))
    store.put(CacheEntry(b"k", encode([]), Usage(), "dec-1", "small", 1, 0.0, kept))
    return question is not None and store.nearest(question, threshold) is not None


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("What is the capital of France?", "what's the capital of France please"),
        ("Hello, explain how tides work", "Explain how the tides work!"),
        ("sum 3 and 4", "Please sum 3 and 4."),
    ],
)
def test_the_same_question_in_other_clothes(asked: str, known: str) -> None:
    assert found(asked, known)


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("sum 3 and 4", "sum 3 and 5"),
        ("sum 3 and 4", "sum 4 and 3"),
        ("Convert 5 EUR to USD", "Convert 5 USD to EUR"),
        ("Is Berlin larger than Paris?", "Is Paris larger than Berlin?"),
        ("which foods should I not eat", "which foods should I eat"),
        ("why doesn't it work", "why does it work"),
        ("list films without violence", "list films with violence"),
        ("what does `f(x)` do here", "what does `g(x)` do here"),
        ("what does ```a = 1``` do", "what does ```a = 2``` do"),
        ('translate "good day" to French', 'translate "good night" to French'),
        ("man bites dog", "dog bites man"),
        ("solve for x", "solve for y"),
        ("What is 17 * 23?", "What is 17 + 23?"),
        ("what is x - y", "what is x y"),
        ("what is (1+2)*3", "what is 1+(2*3)"),
        ("is a < b", "is a > b"),
        ("is .5 a half", "is 5 a half"),
        ("how large is 5!", "how large is 5?"),
        ("when is !done true", "when is done true"),
        ("what is C++ used for", "what is C# used for"),
        ("how much is 5% of 80", "how much is 5 of 80"),
        ("convert $5 into yen", "convert €5 into yen"),
        ("what does 😀 mean", "what does 😡 mean"),
        ("\u0915\u093f क्या है", "\u0915\u0940 क्या है"),
    ],
)
def test_numbers_names_negations_signs_code_quotes_and_order_are_never_overlooked(
    asked: str, known: str
) -> None:
    assert not found(asked, known)


def test_a_word_in_place_of_another_is_never_overlooked_however_long_the_text() -> None:
    assert not found(f"the minimum of {FILLER}", f"the maximum of {FILLER}", threshold=0.5)
    assert found(f"the minimum of {FILLER}", f"the very minimum of {FILLER}")


def test_words_that_change_places_are_never_overlooked_however_long_the_text() -> None:
    there, back = (f"translate from {way} {FILLER}" for way in ("thai to lao", "lao to thai"))
    assert not found(there, back, threshold=0.5)


@pytest.mark.parametrize(
    "no", ["not", "dont", "hardly", "nicht", "keine", "pas", "sin", "não", "не"]
)
def test_a_negation_is_never_overlooked_however_long_the_text(no: str) -> None:
    assert not found(f"those who {no} want {FILLER}", f"those who want {FILLER}", threshold=0.5)


def test_nothing_is_compared_where_there_are_no_words() -> None:
    assert question_of("?!", b"", ENCODER) is None
    assert question_of("please", b"", ENCODER) is None


def test_what_is_too_long_to_be_compared_is_not() -> None:
    assert question_of("tide " * 1_600, b"", ENCODER) is not None
    assert question_of("tide " * 1_601, b"", ENCODER) is None
