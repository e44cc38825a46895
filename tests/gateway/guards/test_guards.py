"""Guards around requests, through the real application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import select

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import ChatRequest, Message
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.errors import ApiError, ConfigError
from gateway.guards.chain import Guarded
from gateway.guards.pii import PiiGuard
from gateway.ledger import tables
from gateway.ledger.database import opened
from gateway.settings.guards import PiiGuardSettings
from gateway.settings.load import load_settings
from gateway.telemetry.metrics import Metrics

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PII = {"kind": "pii"}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def guarded(serve: Serve, remote: Remote, provider: FakeProvider) -> Callable[..., Any]:
    def start(*guards: dict[str, Any], **sections: Any) -> Any:
        return serve({"small": remote("small", provider.url)}, guards=list(guards), **sections)

    return start


def content(answer: httpx2.Response) -> tuple[str, str | None]:
    """Text and finish reason, streamed or not."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        choice = answer.json()["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    chunks = [orjson.loads(line) for line in lines if line != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, choices[-1]["finish_reason"] if choices else None


def actions(served: Any) -> list[tuple[Any, ...]]:
    assert served.verified().faults == ()
    guard = tables.guard_action.c
    query = select(guard.guard, guard.side, guard.action, guard.found, guard.request_id)
    with opened(served.gateway.settings.ledger_url) as engine, engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_personal_data_never_reach_the_expert_nor_the_books(
    guarded: Callable[..., Any], provider: FakeProvider
) -> None:
    served = guarded(PII)
    arguments = '{"to": "ann@x.org"}'
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "system", "content": "You serve bob@y.de."},
        {"role": "user", "content": [{"type": "text", "text": "I am ann@x.org, +44 20 7946 0958"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sent to ann@x.org"},
    ]
    answer = served.ask("small", messages=messages, user="ann@x.org")
    assert answer.status_code == 200
    (sent,) = provider.bodies
    assert sent["messages"][0]["content"] == "You serve [EMAIL_1]."
    assert sent["messages"][1]["content"][0]["text"] == "I am [EMAIL_2], [PHONE_1]"
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL_2]"}'
    assert sent["messages"][3]["content"] == "sent to [EMAIL_2]"
    assert "ann@x.org" not in orjson.dumps(sent).decode()
    record = served.record(answer)
    assert "ann@x.org" not in orjson.dumps(record).decode()
    (action,) = record["guards"]
    assert (action["guard"], action["side"], action["action"]) == ("pii", "input", "redact")
    assert action["found"] == {"email": 5, "phone": 1}


def test_a_request_in_which_nothing_is_found_stays_as_it_was(
    guarded: Callable[..., Any], provider: FakeProvider
) -> None:
    served = guarded(PII, {"kind": "regex", "patterns": {"x": "forbidden"}})
    assert content(served.ask("small", stream=True)) == ("Hello there", "stop")
    assert actions(served) == []


@STREAMS
def test_the_answer_is_redacted_and_the_clients_own_data_are_put_back(
    guarded: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply("Dear [EMAIL_1] , write to eve@z.org or [EMAIL_7]")
    served = guarded({**PII, "restore": True})
    answer = served.ask("small", "I am ann@x.org", stream=stream)
    assert content(answer)[0] == "Dear ann@x.org , write to [EMAIL_2] or [EMAIL_7]"
    kept = served.record(answer)["result"]["answer"]
    assert kept == "Dear [EMAIL_1] , write to [EMAIL_2] or [EMAIL_7]"


@STREAMS
def test_a_blocked_request_names_the_guard_and_reaches_nobody(
    guarded: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    served = guarded({"kind": "regex", "name": "secrets", "patterns": {"bird": r"(?i)blue ?bird"}})
    answer = served.ask("small", "About Project BlueBird", stream=stream)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "content_blocked"
    assert "'secrets'" in answer.json()["error"]["message"]
    assert "bird" not in answer.text.lower()
    assert provider.bodies == []
    assert actions(served) == [("secrets", "input", "block", {"bird": 1}, None)]


@STREAMS
def test_a_blocked_answer_ends_where_the_match_begins(
    guarded: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply("We call it project blue bird in here")
    served = guarded({"kind": "regex", "on": ["output"], "patterns": {"bird": "blue bird"}})
    answer = served.ask("small", stream=stream)
    assert content(answer) == ("We call it project ", "content_filter")
    (action,) = actions(served)
    assert action[:4] == ("regex", "output", "block", {"bird": 1})
    assert served.record(answer)["result"]["cost_nanousd"] > 0


def test_a_blocked_stream_stops_the_call_upstream(
    guarded: Callable[..., Any], provider: FakeProvider
) -> None:
    provider.otherwise = Reply("a blue bird and more", stall_after=4)
    served = guarded({"kind": "regex", "on": ["output"], "patterns": {"bird": "blue bird"}})
    answer = served.ask("small", stream=True, stream_options={"include_usage": True})
    assert content(answer) == ("a ", "content_filter")
    assert provider.left.wait(timeout=30)
    assert '"completion_tokens":0' not in answer.text
    (attempt,) = served.record(answer)["attempts"]
    assert (attempt["status"], attempt["cost_nanousd"] > 0) == ("cancelled", True)


@STREAMS
def test_flags_change_nothing_and_are_on_record(
    guarded: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply("ask eve@z.org")
    served = guarded({**PII, "action": "flag"})
    answer = served.ask("small", "I am ann@x.org", stream=stream)
    assert content(answer) == ("ask eve@z.org", "stop")
    assert provider.bodies[0]["messages"][0]["content"] == "I am ann@x.org"
    assert {action[:3] for action in actions(served)} == {
        ("pii", "input", "flag"),
        ("pii", "output", "flag"),
    }
    figures = served.client.get("/metrics").text
    assert 'pointsman_guard_actions_total{action="flag",guard="pii",side="input"} 1' in figures


def test_guards_work_in_their_order(guarded: Callable[..., Any], provider: FakeProvider) -> None:
    mails = {"kind": "regex", "name": "mails", "patterns": {"mail": r"@x\.org|EMAIL"}}
    served = guarded(PII, mails)
    answer = served.ask("small", "I am ann@x.org")
    assert answer.status_code == 400
    assert [action[:3] for action in actions(served)] == [
        ("pii", "input", "redact"),
        ("mails", "input", "block"),
    ]


@pytest.mark.parametrize("on_error", ["closed", "open"])
@pytest.mark.parametrize("side", ["input", "output"])
@STREAMS
def test_a_guard_that_fails_closes_or_is_on_record(
    guarded: Callable[..., Any],
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    on_error: str,
    side: str,
    stream: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("ann@x.org")

    provider.otherwise = Reply("ask eve@z.org now")
    served = guarded({**PII, "on": [side], "on_error": on_error})
    monkeypatch.setattr("gateway.guards.texts.Eye.join", fail)
    monkeypatch.setattr("gateway.guards.texts.Eye.read", fail)
    answer = served.ask("small", "I am ann@x.org", stream=stream)
    assert "RuntimeError" not in answer.text
    assert "ann@" not in answer.text
    if on_error == "open":
        assert content(answer) == ("ask eve@z.org now", "stop")
        assert [action[2] for action in actions(served)] == ["failed_open"]
    else:
        assert "guard_failed" in answer.text
        assert "eve@" not in answer.text
        assert [action[2] for action in actions(served)] == ["failed_closed"]


def test_a_hit_of_the_cache_is_guarded_too(
    guarded: Callable[..., Any], provider: FakeProvider
) -> None:
    provider.otherwise = Reply("Dear [EMAIL_1], ask eve@z.org")
    served = guarded({**PII, "restore": True}, cache={"exact": True})
    first, again = (served.ask("small", "I am ann@x.org", stream=each) for each in (True, False))
    other = served.ask("small", "I am bob@x.org")
    assert content(first) == content(again) == ("Dear ann@x.org, ask [EMAIL_2]", "stop")
    assert content(other) == ("Dear bob@x.org, ask [EMAIL_2]", "stop")
    states = [each.headers["x-pointsman-cache"] for each in (first, again, other)]
    assert states == ["miss", "hit", "miss"]
    assert len(actions(served)) == 5


def test_long_texts_are_read_too(guarded: Callable[..., Any], provider: FakeProvider) -> None:
    served = guarded(PII)
    provider.otherwise = Reply("word " * 5_000 + "eve@z.org")
    answer = served.ask("small", "word " * 5_000 + "ann@x.org")
    assert provider.bodies[0]["messages"][0]["content"].endswith("word [EMAIL_1]")
    assert content(answer)[0].endswith("word [EMAIL_2]")


@pytest.mark.parametrize(
    ("guard", "why"),
    [
        ("{kind: regex, patterns: {key: 'sk-[a-z]+'}}", "key: on output a match must end within"),
        ("{kind: regex, patterns: {key: '(a'}}", "key: missing"),
        ("{kind: pii, regions: [XX]}", "'XX' is no country's code"),
        ("{kind: pii, restore: true, action: flag}", "restore needs action: redact"),
    ],
)
def test_a_wrong_guard_is_refused_with_its_name(tmp_path: Any, guard: str, why: str) -> None:
    path = tmp_path / "pointsman.yaml"
    path.write_text(f"guards:\n  - {guard}\n")
    with pytest.raises(ConfigError, match=f"guards.0.*{why}".replace("(", r"\(")):
        load_settings(path)


def test_a_prompt_that_cannot_be_read_does_not_pass() -> None:
    request = ChatRequest((Message("user", ""),), task="complete", raw=((1, 2),))
    ask = Ask(request, "auto", "openai.completions", Key("me"))

    def check(**rules: Any) -> Guarded:
        guard = PiiGuard(PiiGuardSettings(kind="pii", **rules))
        guarded = Guarded(ask, [guard], None, Metrics())
        guarded.check()
        return guarded

    with pytest.raises(ApiError, match="can't read tokens") as refusal:
        check()
    assert (refusal.value.status, refusal.value.code) == (400, "content_blocked")
    (row,) = check(on_error="open").rows("req-1")
    assert row.values["action"] == "failed_open"
    assert check(on=["output"]).rows("req-1") == []
