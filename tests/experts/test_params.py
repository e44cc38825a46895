"""What an expert gets to see of a request, and who is asked at all."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from experts.cards import ExpertCard, FewShotPrompt
from experts.messages import ChatRequest, Message, RawInput
from experts.params import dropped_params, unknown_params, with_known_params
from experts.wire.openai import dialect_of
from routers.eligible import Constraints, eligible

HI = (Message("user", "Hi"),)
ASKED = ChatRequest(HI, params={"temperature": 0, "top_k": 5, "guided_json": {}})


def card(**fields: Any) -> ExpertCard:
    return ExpertCard("x", **fields)


def why_not(request: ChatRequest, asked: ExpertCard) -> str | None:
    return eligible(request, 10, [asked], {}, Constraints())[1].get("x")


def test_fields_of_others_are_known_by_being_none_of_openais() -> None:
    assert unknown_params(ASKED, card()) == ("guided_json", "top_k")
    assert unknown_params(ASKED, card(params_allow=frozenset({"top_k"}))) == ("guided_json",)


def test_pass_sends_everything_and_drop_what_is_known() -> None:
    assert with_known_params(ASKED, card()) is ASKED
    drops = card(params="drop", params_allow=frozenset({"top_k"}))
    assert dict(with_known_params(ASKED, drops).params) == {"temperature": 0, "top_k": 5}
    assert dropped_params(ASKED, drops) == ("guided_json",)
    assert dropped_params(ASKED, card(params="strict")) == ()


def test_a_strict_expert_is_not_asked_what_it_does_not_take() -> None:
    assert why_not(ASKED, card(params="strict")) == "does not take guided_json, top_k"
    assert why_not(ChatRequest(HI), card(params="strict")) is None
    assert why_not(ASKED, card(params="drop")) is None


def raw(prompt: RawInput = "Once", max_tokens: int | None = None, **params: Any) -> ChatRequest:
    return ChatRequest(HI, max_tokens, params=params, task="complete", raw=(prompt,))


CHATS = card()
CONTINUES = card(api="completions")
BASE = card(prompt=FewShotPrompt("", (("a", "b"),)))
EMBEDS = card(api="embeddings")


@pytest.mark.parametrize(
    ("request_", "able"),
    [
        (ChatRequest(HI), (CHATS, BASE)),
        (raw(), (CHATS, CONTINUES, BASE)),
        (raw(echo=True), (CHATS, CONTINUES, BASE)),
        (raw((1, 2)), (CONTINUES, BASE)),
        (raw(suffix="end"), (CONTINUES, BASE)),
        (raw(best_of=3, n=2), (CONTINUES, BASE)),
        (raw(echo=True, logprobs=1), (CONTINUES, BASE)),
        (raw(max_tokens=0), (CONTINUES, BASE)),
        (ChatRequest(HI, task="embed", raw=("Hi",)), (EMBEDS,)),
    ],
)
def test_who_can_be_asked_for_what(request_: ChatRequest, able: tuple[ExpertCard, ...]) -> None:
    asked = [each for each in (CHATS, CONTINUES, BASE, EMBEDS) if why_not(request_, each) is None]
    assert tuple(asked) == able


Field = Literal["max_tokens", "max_completion_tokens"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", None])
@pytest.mark.parametrize("sent", ["max_tokens", "max_completion_tokens"])
def test_the_longest_answer_is_called_what_the_expert_calls_it(
    field: Field | None, sent: Field
) -> None:
    params = {"max_completion_tokens": 9} if sent == "max_completion_tokens" else {}
    body = dialect_of(CHATS, field).body(ChatRequest(HI, 9, params=params), "m")
    names = [name for name in body if name.startswith("max_")]
    assert names == [field or sent]
    assert body[names[0]] == 9


def test_the_clients_stream_options_are_kept_beside_ours() -> None:
    params = {"stream_options": {"continuous_usage_stats": True, "include_usage": False}}
    streamed = dialect_of(CHATS).body(ChatRequest(HI, stream=True, params=params), "m")
    assert streamed["stream_options"] == {"continuous_usage_stats": True, "include_usage": True}
    assert "stream_options" not in dialect_of(CHATS).body(ChatRequest(HI, params=params), "m")


def test_a_raw_prompt_is_sent_without_the_few_shot_one_around_it() -> None:
    body = dialect_of(BASE).body(raw("Once upon", 5, stop="\n", top_k=3), "m")
    assert body == {
        "prompt": "Once upon",
        "max_tokens": 5,
        "stop": "\n",
        "top_k": 3,
        "model": "m",
    }
    assert dialect_of(CONTINUES).body(raw((1, 2)), "m")["prompt"] == [1, 2]


def test_a_chat_is_asked_in_its_own_words() -> None:
    body = dialect_of(CHATS).body(raw(logprobs=2, echo=True, best_of=1, seed=1), "m")
    assert body == {
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 1,
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }
