"""Nothing gets past guards that stop, fail or hold back, and nothing changes its place for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import ChatRequest, Delta, Finish, Message
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.guards.base import Record
from gateway.guards.chain import Guarded
from gateway.guards.events import EventGuard, StoppedError
from gateway.guards.finder import Detector, Finder, Found, Scan
from gateway.guards.pii import PiiGuard, Placeholders, pii_finder
from gateway.guards.texts import Eye
from gateway.settings.guards import PiiGuardSettings
from gateway.telemetry.metrics import Metrics

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


def test_what_follows_in_the_same_piece_does_not_pass_a_guard_that_has_stopped(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": "see blue bird", "tool_calls": [call]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    provider.otherwise = Reply(whole=whole)
    blocking = {"kind": "regex", "on": ["output"], "patterns": {"bird": "blue bird"}}
    experts = {"small": remote("small", provider.url)}
    (choice,) = serve(experts, guards=[{"kind": "pii"}, blocking]).ask("small").json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "see "}
    assert choice["finish_reason"] == "content_filter"


def test_of_a_field_that_is_blocked_nothing_becomes_text() -> None:
    record = Record("pii", "output", "block", Counter())
    guard = EventGuard(Eye(pii_finder(("email",), ()), "block", Placeholders(), record))
    list(guard.write(Delta("Look: ")))
    with pytest.raises(StoppedError) as stop:
        guard.write(Delta(fields={"note": "by ann@x.org"}))
    assert stop.value.last == [Finish("content_filter")]


def test_a_request_that_a_guard_could_not_read_is_as_confidential_as_one_with_a_find(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(Eye, "read", fail)
    settings = PiiGuardSettings(kind="pii", on_error="open", privacy="private")
    asked = Ask(ChatRequest((Message("user", "Hi"),)), "auto", "openai.chat", Key("me"))
    guarded = Guarded(asked, [PiiGuard(settings)], None, Metrics())
    guarded.check()
    assert guarded.ask.wishes.privacy == "private"


def test_what_was_held_back_comes_before_the_block_that_follows_it() -> None:
    record = Record("pii", "output", "redact", Counter())
    guard = EventGuard(Eye(pii_finder(("email",), ()), "redact", Placeholders(), record))
    block = Delta(opaque=({"type": "content_block_start", "content_block": {"type": "x"}},))
    passed = [event for each in (Delta("to ann@x"), block) for event in guard.write(each)]
    assert "".join(each.text for each in passed[:-1] if isinstance(each, Delta)) == "to ann@x"
    assert passed[-1] == block


@pytest.mark.parametrize("pattern", ["(?i)blue bird", "(?i:blue) (?i:bird)"])
def test_a_pattern_blind_to_case_holds_back_beginnings_in_any_case(pattern: str) -> None:
    scan = Scan(Finder([Detector("bird", pattern)], streams=True))
    pieces = [piece for text in ("a BLUE", " Bi", "RD") for piece in scan.feed(text)]
    assert [*pieces, *scan.feed("", final=True)] == ["a ", Found("bird", "BLUE BiRD")]


@pytest.mark.parametrize(
    ("entity", "text"),
    [("phone", "+44 20 7946 0958"), ("iban", "NO93 8601 1117 947")],
    ids=["phone of no region", "shortest iban"],
)
def test_personal_data_of_any_country_are_found(entity: str, text: str) -> None:
    pieces = list(pii_finder((entity,), ()).pieces(f"It is {text}."))
    assert Found(entity, text) in pieces
