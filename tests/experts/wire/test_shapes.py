"""Parts of answers that have another shape than anybody behind a reader counts on."""

from __future__ import annotations

from typing import Any

import pytest

from experts.wire.shapes import index_of, logprobs_of, word_of

TOKEN = {"token": "Li", "logprob": -0.5, "bytes": [76, 105], "top_logprobs": []}


@pytest.mark.parametrize("said", [{}, {"index": None}, {"index": 0}, {"index": 0.0}])
def test_a_missing_index_is_the_first(said: dict[str, Any]) -> None:
    assert index_of(said) == 0


@pytest.mark.parametrize("odd", [-1, 0.5, 1024, 2**63, 1e308, "x", "", [], {}])
def test_an_index_is_no_longer_than_a_list_that_clients_may_keep(odd: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        index_of({"index": odd})


@pytest.mark.parametrize("odd", [None, "", 1, True, [], {"a": 1}])
def test_only_words_are_words(odd: Any) -> None:
    assert word_of({"why": odd}, "why") is None
    assert word_of({"why": "stop"}, "why") == "stop"


@pytest.mark.parametrize(
    "sound",
    [
        {"content": [TOKEN, {**TOKEN, "top_logprobs": [{"token": "Ro", "logprob": -2}]}]},
        {"content": [TOKEN], "refusal": None, "new": 1},
        {"tokens": ["Li"], "token_logprobs": [None], "top_logprobs": [{"Li": -0.5}, None]},
    ],
)
def test_log_probabilities_are_what_both_shapes_say(sound: dict[str, Any]) -> None:
    assert logprobs_of({"logprobs": sound}) == sound


@pytest.mark.parametrize(
    "odd",
    [
        *(None, True, 1.5, "x", [], {}),
        *({"content": odd} for odd in (1.5, "x", {"a": 1}, [None], ["x"], [{"token": 5}])),
        {"content": [{**TOKEN, "top_logprobs": 1.5}]},
        {"content": [{**TOKEN, "top_logprobs": ["x"]}]},
        {"content": [{**TOKEN, "bytes": ["x"]}]},
        {"content": [{**TOKEN, "logprob": None}]},
        {"tokens": [1], "token_logprobs": ["x"], "text_offset": [0.5], "top_logprobs": [{"a": ""}]},
    ],
)
def test_what_else_is_said_to_be_log_probabilities_is_left_out(odd: Any) -> None:
    assert logprobs_of({"logprobs": odd}) is None
