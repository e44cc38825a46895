"""Which questions count as nearly the same, and which never do."""

from __future__ import annotations

import pytest

from experts.messages import Usage
from gateway.caching.entries import CacheEntry, encode
from gateway.caching.similar import question_of
from gateway.caching.store import AnswerStore
from routers.encoders.lexical import HashingEncoder

ENCODER = HashingEncoder(1024)


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
    ],
)
def test_numbers_names_negations_code_quotes_and_order_are_never_overlooked(
    asked: str, known: str
) -> None:
    assert not found(asked, known)


def test_a_word_in_place_of_another_is_never_overlooked_however_long_the_text() -> None:
    filler = " ".join(f"word{letter}{other}" for letter in "abcdefgh" for other in "abcdefgh")
    assert not found(f"the minimum of {filler}", f"the maximum of {filler}", threshold=0.5)
    assert found(f"the minimum of {filler}", f"the very minimum of {filler}")


def test_nothing_is_compared_where_there_are_no_words() -> None:
    assert question_of("?!", b"", ENCODER) is None
    assert question_of("please", b"", ENCODER) is None
