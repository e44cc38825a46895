"""When two requests are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys import Key
from gateway.api.chat_in import parse_chat
from gateway.api.messages_in import parse_messages
from gateway.ask import Ask
from gateway.caching.fingerprint import fingerprint, surroundings
from gateway.settings.access import Grant

ME = Key("me")


def ask(text: str = "Hi", key: Key = ME, **fields: Any) -> Ask:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
    return parse_chat(body, {}, key)


def same(left: Ask, right: Ask) -> bool:
    return fingerprint(left) == fingerprint(right)


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(random: Any) -> None:
    body: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hi", "name": "bo"}],
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}],
        "seed": 3,
    }

    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        names = list(value)
        random.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    other = orjson.loads(orjson.dumps(shuffled(body)))
    assert same(parse_chat(body, {}, ME), parse_chat(other, {}, ME))


def test_how_it_travels_and_who_it_is_for_do_not_matter() -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    assert same(ask(), ask(**options, user="u7", metadata={"a": "b"}))
    assert same(ask(), ask(pointsman={"session": "s", "cache": "refresh"}))


def test_whatever_can_change_the_answer_matters() -> None:
    others = [
        ask("Ho"),
        ask(model="auto:cheap"),
        ask(temperature=0.1),
        ask(max_tokens=5),
        ask(seed=1),
        ask(n=2),
        ask(tools=[{"type": "function", "function": {"name": "f"}}]),
        ask(unknown_to_us=1),
        ask(pointsman={"experts": ["a"]}),
        ask(pointsman={"tags": {"region": "eu"}}),
        ask(key=Key("you")),
    ]
    digests = {fingerprint(each) for each in [ask(), *others]}
    assert len(digests) == 1 + len(others)


def test_the_same_words_on_another_wire_or_under_another_beta_are_another_request() -> None:
    body = {"model": "a", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    betas = [{}, {"anthropic-beta": "context-1m"}, {"anthropic-beta": "other"}]
    asks = [parse_chat(body, {}, ME), *(parse_messages(body, beta, ME) for beta in betas)]
    assert len({fingerprint(each) for each in asks}) == 4


def test_prompts_of_tokens_differ_though_no_message_says_so() -> None:
    def prompt(*tokens: int) -> Ask:
        request = replace(ask("").request, task="complete", raw=(tokens,))
        return replace(ask(""), request=request)

    assert same(prompt(1, 2), prompt(1, 2))
    assert not same(prompt(1, 2), prompt(1, 3))


def test_surroundings_leave_only_the_last_users_text_open() -> None:
    system = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "content": "Hi"}

    def around(*messages: Any, **fields: Any) -> bytes | None:
        return surroundings(ask(messages=list(messages), **fields))

    assert around(system, user) == around(system, {**user, "content": "Hello"})
    assert around(system, user) != around({**system, "content": "Be long."}, user)
    assert around(user) != around(user, temperature=1)
    assert around(user) != around({**user, "name": "bo"})
    assert around(user, {"role": "assistant", "content": "Yes"}) is None
    assert around({"role": "user", "content": [{"type": "text", "text": "Hi"}]}) is None


def test_a_projects_keys_share_what_they_may_both_have() -> None:
    def key(name: str, **rights: Any) -> Key:
        return Key(name, Grant(**rights))

    def of(key: Key) -> bytes:
        return fingerprint(ask(key=key), "project")

    assert of(key("a", project="p")) == of(key("b", project="p"))
    assert of(key("a", project="p")) != of(key("a", project="q"))
    assert of(key("a", project="p")) != of(key("b", project="p", experts=("small",)))
    assert of(key("a", project="p")) != of(key("b", project="p", policies=("cheap",)))
    assert of(key("a", project="p")) != of(key("b", project="p", privacy="private"))
