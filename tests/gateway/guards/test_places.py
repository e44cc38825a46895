"""Where guards look: wherever a request or an answer says something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import FakeAnthropic, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert
from experts.messages import Collector, Completion, Delta, Event, Finish
from gateway.guards.base import Record
from gateway.guards.events import EventGuard
from gateway.guards.pii import Placeholders, pii_finder
from gateway.guards.texts import Eye

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PII = {"kind": "pii"}
ANN = "ann@x.org"


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with fake_anthropic() as running:
        yield running


@pytest.fixture
def over_claude(serve: Serve, claude: FakeAnthropic) -> Any:
    card = ExpertCard(
        "claude", prices=Prices(3, 15), modalities=frozenset({"text", "image", "file"})
    )
    return serve({"claude": AnthropicExpert(card, claude.url, "m")}, guards=[PII])


def passed(*events: Event) -> Completion:
    """An answer behind a guard that redacts."""
    eye = Eye(
        pii_finder(("email",), ()), "redact", Placeholders(), Record("pii", "output", "redact")
    )
    reader, collector = EventGuard(eye), Collector()
    for event in events:
        for each in reader.write(event):
            collector.add(each)
    return collector.completion()


def test_schemas_whose_words_are_those_of_json_schema_are_read(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)}, guards=[PII])
    properties = {
        "type": {"type": "string", "description": f"as {ANN} has it"},
        "size": {"type": ["integer", "null"]},
    }
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    answer = served.ask("small", tools=[{"type": "function", "function": function}])
    assert answer.status_code == 200, answer.text
    sent = provider.bodies[0]["tools"][0]["function"]["parameters"]["properties"]
    assert sent["type"]["description"] == "as [EMAIL_1] has it"
    assert sent["size"] == {"type": ["integer", "null"]}


def test_a_document_that_is_a_text_is_read(over_claude: Any, claude: FakeAnthropic) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": f"I am {ANN}"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "Who?"}]
    answer = over_claude.ask("claude", content)
    assert answer.status_code == 200, answer.text
    assert claude.bodies[0]["messages"][0]["content"][0]["source"]["data"] == "I am [EMAIL_1]"


THOUGHT = {"type": "thinking", "thinking": f"It is {ANN}", "signature": "s"}
CALLED = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": ANN}}
CITED = {"type": "text", "text": "So.", "citations": [{"type": "char", "cited_text": f"by {ANN}"}]}


@pytest.mark.parametrize("said", [THOUGHT, CALLED, CITED], ids=["thought", "search", "citation"])
def test_what_only_anthropics_wire_can_say_in_the_history_is_read(
    over_claude: Any, claude: FakeAnthropic, said: dict[str, Any]
) -> None:
    history = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": [said, {"type": "text", "text": "Somebody."}]},
        {"role": "user", "content": "Well?"},
    ]
    body = {"model": "claude", "max_tokens": 9, "messages": history}
    answer = over_claude.client.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    assert ANN not in orjson.dumps(claude.bodies[0]).decode()
    assert "Somebody." in orjson.dumps(claude.bodies[0]).decode()


def test_what_only_anthropics_wire_can_say_of_a_request_is_read(
    over_claude: Any, claude: FakeAnthropic
) -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"to": ANN}]}
    body = {"model": "claude", "max_tokens": 9, "tools": [tool]}
    asked = {**body, "messages": [{"role": "user", "content": "Hi"}]}
    assert over_claude.client.post("/v1/messages", json=asked).status_code == 200
    assert ANN not in orjson.dumps(claude.bodies[0]).decode()


def test_a_picture_beside_what_is_redacted_in_a_tools_result_still_comes(
    over_claude: Any, claude: FakeAnthropic
) -> None:
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
    }
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    content = [{"type": "text", "text": f"of {ANN}"}, image]
    result = {"type": "tool_result", "tool_use_id": "t", "content": content}
    history = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    tool = {"name": "f", "input_schema": {"type": "object"}}
    body = {"model": "claude", "max_tokens": 9, "messages": history, "tools": [tool]}
    answer = over_claude.client.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    (sent,) = claude.bodies
    assert sent["messages"][2]["content"][0]["content"] == "of [EMAIL_1]"
    assert image in sent["messages"][2]["content"]


def test_a_custom_tools_input_is_read_and_stays_what_it_was() -> None:
    begun = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": "to ann@"}}
    more = {"index": 0, "custom": {"input": "x.org "}}
    answer = passed(Delta(tool_calls=(begun,)), Delta(tool_calls=(more,)), Finish("tool_calls"))
    (call,) = answer.choices[0].tool_calls
    assert call == {"id": "c", "type": "custom", "custom": {"name": "f", "input": "to [EMAIL_1] "}}


def test_a_name_that_comes_in_pieces_is_told_whole() -> None:
    begun = {
        "index": 0,
        "id": "c",
        "type": "function",
        "function": {"name": "get_", "arguments": ""},
    }
    more = {"index": 0, "function": {"name": "mail"}}
    answer = passed(Delta(tool_calls=(begun,)), Delta(tool_calls=(more,)), Finish("tool_calls"))
    assert answer.choices[0].tool_calls[0]["function"]["name"] == "get_mail"


def test_words_of_refusal_are_read_across_their_pieces() -> None:
    pieces = (Delta(fields={"refusal": piece}) for piece in ("Not to ann", "@x.", "org, ", "no."))
    answer = passed(*pieces, Finish("stop"))
    assert answer.choices[0].fields == {"refusal": "Not to [EMAIL_1], no."}


def test_the_books_have_the_clients_data_no_more_for_a_kept_answer(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("Dear [EMAIL_1]")
    experts = {"small": remote("small", provider.url)}
    served = serve(experts, guards=[{**PII, "restore": True}], cache={"exact": True})
    answers = [served.ask("small", f"I am {ANN}") for _ in range(2)]
    assert [each.headers["x-pointsman-cache"] for each in answers] == ["miss", "hit"]
    assert [served.record(each)["result"]["answer"] for each in answers] == ["Dear [EMAIL_1]"] * 2
