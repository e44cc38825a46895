"""Tokens are counted roughly, texts become features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.messages import ChatRequest, Message
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer, answers_wanted, estimate_prompt_tokens, estimate_tokens


def test_four_letters_of_english_are_about_one_token() -> None:
    assert estimate_tokens("a" * 400) == 100


def test_a_chinese_character_is_more_of_a_token_than_a_latin_one() -> None:
    assert estimate_tokens("字" * 100) == 75


@given(st.text(), st.text())
def test_estimates_are_at_least_one_and_grow_with_the_text(text: str, more: str) -> None:
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + more)


def test_half_a_surrogate_pair_is_counted_and_not_refused() -> None:
    assert estimate_tokens("\ud83d") == 1


def test_a_request_is_counted_with_its_tools_and_tool_calls() -> None:
    plain = ChatRequest((Message("user", "x" * 40),))
    tools = ChatRequest(plain.messages, params={"tools": [{"function": {"name": "f" * 400}}]})
    called = ChatRequest((Message("user", "x" * 40), Message("assistant", None, {"t": "y" * 400})))
    assert estimate_prompt_tokens(plain) == 10
    assert estimate_prompt_tokens(tools) > 110
    assert estimate_prompt_tokens(called) > 110


@pytest.mark.parametrize(("n", "wanted"), [(None, 1), (0, 1), (3, 3)])
def test_answers_wanted_is_at_least_one(n: int | None, wanted: int) -> None:
    request = ChatRequest((Message("user", "hi"),), params={} if n is None else {"n": n})
    assert answers_wanted(request) == wanted


def test_features_have_a_row_per_text() -> None:
    featurizer = Featurizer(HashingEncoder(16)).fit(["one"], np.random.default_rng(0))
    batch = featurizer.transform(["one", "two words"])
    assert batch.texts == ("one", "two words")
    assert batch.vectors_ND.shape == (2, 16)
    np.testing.assert_array_equal(batch.prompt_tokens_N, [1, 9 / 4])
