"""What the Responses API takes, refuses and remembers; its stream tells what its whole says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import Collector, Delta, Event, Finish, Usage
from gateway.api.front import Envelope
from gateway.api.responses_items import input_items, messages_of, sealed
from gateway.api.responses_out import ResponseWriter
from gateway.errors import ApiError
from gateway.responses.store import ResponseStore

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PICTURE = "https://x.example/a.png"
USER = {"role": "user", "content": "Hi"}


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    return serve({"small": remote("small", provider.url)})


def ask(served: Any, **fields: Any) -> Any:
    return served.client.post("/v1/responses", json={"model": "small", "input": "Hi", **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0].content[0].file_url",
        ),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "msg_dec-1_0"}]}, "input[0].id"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        ({"instructions": 3}, "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        ({"tools": {}, "tool_choice": "auto"}, None),
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "function", "name": "f"}], "tool_choice": "x"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": "x"}, "text"),
        ({"reasoning": "x"}, "reasoning"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": "x"}, "metadata"),
        ({"store": "yes"}, "store"),
        ({"previous_response_id": 3}, "previous_response_id"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"prompt": {"id": "p"}, "input": None}, "prompt"),
        ({"include": "x"}, "include"),
        ({"top_logprobs": "x"}, "top_logprobs"),
        ({"base_url": "http://x"}, "base_url"),
        ({"pointsman": {"policy": 3}}, "pointsman.policy"),
    ],
)
def test_every_fault_is_named(served: Any, fields: dict[str, Any], param: str | None) -> None:
    answer = ask(served, **fields)
    if param is None:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


def test_fields_get_their_names_in_chat(served: Any, provider: FakeProvider) -> None:
    answer = ask(
        served,
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {
                        "type": "input_image",
                        "image_url": "https://x.example/a.png",
                        "detail": "low",
                    },
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:x"},
                ],
            }
        ],
        tools=[{"type": "function", "name": "f", "parameters": {}}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        reasoning={"effort": "high"},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        safety_identifier="who",
    )
    assert answer.status_code == 200
    assert provider.bodies[-1] == {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image_url",
                        "image_url": {"url": PICTURE, "detail": "low"},
                    },
                    {"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}},
                ],
            }
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "reasoning_effort": "high",
        "logprobs": True,
        "top_logprobs": 2,
        "safety_identifier": "who",
    }


def messages(*items: Any) -> list[Any]:
    found = messages_of(input_items(list(items), "x"))
    return [(message.role, message.content, dict(message.fields)) for message in found]


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}


def output(name: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": name, "output": "ok"}


def as_chat(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_thought_and_calls_of_one_turn_become_one_message() -> None:
    signed = [{"type": "thinking", "thinking": "b", "signature": "s"}]
    found = messages(
        {
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "old"}],
        },
        {"role": "assistant", "content": "Hello"},
        USER,
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
        call("1"),
        call("2"),
        output("1"),
        output("2"),
        {"type": "reasoning", "summary": [], "encrypted_content": sealed(signed)},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Wait"}]},
        call("3"),
        output("3"),
    )
    assert found == [
        ("assistant", "Hello", {}),
        ("user", "Hi", {}),
        ("assistant", None, {"tool_calls": [as_chat("1"), as_chat("2")], "reasoning_content": "a"}),
        ("tool", "ok", {"tool_call_id": "1"}),
        ("tool", "ok", {"tool_call_id": "2"}),
        ("assistant", "Wait", {"tool_calls": [as_chat("3")], "thinking_blocks": signed}),
        ("tool", "ok", {"tool_call_id": "3"}),
    ]


@pytest.mark.parametrize("foreign", ["gAAAA-not-ours", "", "e30=", "bnVsbA==", 7])
def test_thoughts_that_others_sealed_are_left_out(foreign: Any) -> None:
    thought = {"type": "reasoning", "summary": [], "encrypted_content": foreign}
    assert messages(USER, thought, call("1"))[1][2] == {"tool_calls": [as_chat("1")]}


def test_items_of_kept_responses_can_be_named(served: Any, provider: FakeProvider) -> None:
    first = ask(served).json()
    again = ask(
        served,
        input=[USER, {"type": "item_reference", "id": first["output"][0]["id"]}, USER],
    )
    assert again.status_code == 200
    said = [message["content"] for message in provider.bodies[-1]["messages"]]
    assert said == ["Hi", "Hello there", "Hi"]


def test_input_items_come_in_pages(served: Any) -> None:
    made = ask(served, input=[{"role": "user", "content": str(n)} for n in range(5)]).json()
    url = f"/v1/responses/{made['id']}/input_items"

    def page(query: str) -> Any:
        return served.client.get(f"{url}?{query}").json()

    first = page("limit=2")
    assert [item["content"] for item in first["data"]] == ["4", "3"]
    assert first["has_more"] is True
    last = page(f"limit=3&after={first['last_id']}")
    assert [item["content"] for item in last["data"]] == ["2", "1", "0"]
    assert last["has_more"] is False
    assert [item["content"] for item in page("order=asc")["data"]] == list("01234")
    for query in ("limit=0", "limit=x", "order=up", "after=nobody"):
        assert served.client.get(f"{url}?{query}").status_code == 400


def test_an_answer_that_cannot_be_kept_is_given_and_says_so(
    served: Any, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.errors import LedgerError

    async def fails(*_: Any) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ResponseStore, "save", fails)
        whole = ask(served)
        streamed = ask(served, stream=True)
    assert whole.status_code == 200
    assert whole.json()["store"] is False
    last = _last_event(streamed.text)
    assert last["type"] == "response.completed"
    assert last["response"]["store"] is False


def test_a_project_shares_what_its_keys_made(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    names = ("one", "two", "three", "stricter")
    private = {"project": "p", "privacy": "private"}
    projects: Any = ({"project": "p"}, {"project": "p"}, {}, private)
    keys = [
        {"name": name, "key": f"secret-{name}", **project}
        for name, project in zip(names, projects, strict=True)
    ]
    served = serve({"small": remote("small", provider.url, privacy="private")}, keys=keys)

    def call_as(name: str, method: str, path: str, **more: Any) -> Any:
        headers = {"authorization": f"Bearer secret-{name}"}
        return served.client.request(method, path, headers=headers, **more)

    made = call_as("one", "POST", "/v1/responses", json={"model": "small", "input": "Hi"}).json()
    found = {
        name: call_as(name, "GET", f"/v1/responses/{made['id']}").status_code for name in names
    }
    assert found == {"one": 200, "two": 200, "three": 404, "stricter": 404}
    asked = {"model": "small", "input": "A secret"}
    secret = call_as("stricter", "POST", "/v1/responses", json=asked).json()
    onward = {"model": "small", "input": "Which?", "previous_response_id": secret["id"]}
    assert call_as("stricter", "POST", "/v1/responses", json=onward).status_code == 200
    refused = call_as("one", "POST", "/v1/responses", json=onward)
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    assert call_as("three", "DELETE", f"/v1/responses/{made['id']}").status_code == 404
    assert call_as("two", "DELETE", f"/v1/responses/{made['id']}").json()["deleted"] is True


def test_a_response_that_broke_is_not_kept(served: Any, provider: FakeProvider) -> None:
    provider.script.append(Reply("a b c", cut_after=2))
    broken = ask(served, stream=True)
    failed = [orjson.loads(line[6:]) for line in broken.text.splitlines() if line[:5] == "data:"]
    assert [event["type"] for event in failed[-2:]] == ["response.failed", "error"]
    assert failed[-2]["response"]["store"] is False
    assert served.client.get(f"/v1/responses/{failed[0]['response']['id']}").status_code == 404


def _last_event(text: str) -> Any:
    return orjson.loads(text.strip().rsplit("data: ", 1)[1])


_TEXT = st.text(min_size=1, max_size=8)
_CALLS = st.lists(st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=3)


@st.composite
def answers(draw: Any) -> list[Event]:
    """Any answer an expert may give: thought, text, refusal and calls, pieces of calls mixed."""
    events: list[Event] = []
    for kind in draw(st.lists(st.sampled_from(["thought", "text", "refusal", "note"]), max_size=6)):
        if kind == "note":
            note = {"type": "url_citation", "url_citation": {"url": draw(_TEXT)}}
            events.append(Delta(fields={"annotations": [note]}))
        elif kind == "refusal":
            events.append(Delta(fields={"refusal": draw(_TEXT)}))
        else:
            text = draw(_TEXT)
            events.append(Delta(reasoning=text) if kind == "thought" else Delta(text))
    pieces: list[Delta] = []
    for index, arguments in enumerate(draw(_CALLS)):
        first = {"id": f"c{index}", "type": "function", "function": {"name": "f", "arguments": ""}}
        events.append(Delta(tool_calls=({"index": index, **first},)))
        written = orjson.dumps(arguments).decode()
        half = draw(st.integers(0, len(written)))
        for part in (written[:half], written[half:]):
            piece = {"index": index, "function": {"arguments": part}}
            pieces.append(Delta(tool_calls=(piece,)))
    events += (
        sorted(pieces, key=lambda _: draw(st.integers(0, 3))) if draw(st.booleans()) else pieces
    )
    return [*events, Finish(draw(st.sampled_from(["stop", "length", "tool_calls"])))]


def in_order(events: list[Event]) -> bool:
    """Whether the pieces of each call are still in their order."""
    written: dict[int, str] = {}
    for event in events:
        for piece in event.tool_calls if isinstance(event, Delta) else ():
            index = piece["index"]
            written[index] = written.get(index, "") + piece["function"]["arguments"]
    return all(_is_json(text) for text in written.values())


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def streamed(writer: ResponseWriter, events: list[Event]) -> Iterator[dict[str, Any]]:
    pieces = [piece for event in events for piece in writer.write(event)]
    for piece in (*pieces, *writer.end(Usage(1, output=2), None)):
        yield orjson.loads(piece.decode().split("data: ", 1)[1])


@given(answers().filter(in_order), st.booleans())
def test_the_stream_tells_what_the_whole_says(events: list[Event], summary: bool) -> None:
    body = {"reasoning": {"summary": "auto"}} if summary else {}
    envelope = Envelope("dec-1", "x", 0)
    told = list(streamed(ResponseWriter(body, envelope), events))
    collector = Collector()
    for event in events:
        collector.add(event)
    whole = ResponseWriter(body, envelope).whole(collector.completion(), Usage(1, output=2))
    final = told[-1]["response"]
    assert final["output"] == whole["output"]
    assert final["status"] == whole["status"]
    assert final["usage"] == whole["usage"]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    _check_story(told, whole["output"])


def _check_story(told: list[dict[str, Any]], output: list[dict[str, Any]]) -> None:
    """Every item is added, then told piece by piece, then done, and the pieces add up to it."""
    added = [e["output_index"] for e in told if e["type"] == "response.output_item.added"]
    assert added == list(range(len(output)))
    done = {e["output_index"]: e["item"] for e in told if e["type"] == "response.output_item.done"}
    assert [done[index] for index in added] == output
    for kind, field in (
        ("output_text", "text"),
        ("refusal", "refusal"),
        ("reasoning_text", "text"),
    ):
        pieces: dict[tuple[int, int], str] = {}
        for event in told:
            if event["type"] == f"response.{kind}.delta":
                at = (event["output_index"], event["content_index"])
                pieces[at] = pieces.get(at, "") + event["delta"]
        for (index, part), text in pieces.items():
            assert output[index]["content"][part][field] == text


def test_a_failure_before_anything_was_said_still_tells_the_story() -> None:
    writer = ResponseWriter({}, Envelope("dec-1", "x", 0))
    failure = ApiError(502, "gone", type="upstream_error", code="upstream_unavailable")
    told = [orjson.loads(p.decode().split("data: ", 1)[1]) for p in writer.fail(failure)]
    assert [event["type"] for event in told] == [
        "response.created",
        "response.in_progress",
        "response.failed",
        "error",
    ]
    assert told[2]["response"]["error"] == {"code": "upstream_unavailable", "message": "gone"}
