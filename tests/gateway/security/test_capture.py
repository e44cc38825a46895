"""What people write is on no disk unless somebody said so, and then no more than was said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.ledger import tables
from gateway.ledger.database import opened
from gateway.settings.ledger import LedgerSettings
from gateway.settings.root import Settings
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]
ASKED, SAID = "planted question of someone@example.org", "planted answer of one"
KEYS = [
    {"name": "root", "key": "root-key-1", "role": "admin"},
    {"name": "team", "key": "team-key-1"},
]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": ASKED}]},
    "/v1/messages": {"messages": [{"role": "user", "content": ASKED}], "max_tokens": 9},
    "/v1/responses": {"input": ASKED, "store": False},
    "/v1/completions": {"prompt": ASKED},
}


@pytest.fixture
def start(serve: Serve, remote: Remote, provider: FakeProvider) -> Callable[..., Served]:
    provider.otherwise = Reply(SAID)

    def run(**ledger: Any) -> Served:
        return serve({"a": remote("a", provider.url)}, keys=KEYS, ledger=ledger)

    return run


def ask(served: Served, key: str = "team", path: str = "/v1/chat/completions", **more: Any) -> Any:
    headers = {"authorization": f"Bearer {key}-key-1"}
    answer = served.client.post(path, json={"model": "a", **BODIES[path], **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def on_disk(served: Served) -> str:
    served.verified()
    folder = served.gateway.settings.data_dir
    return "".join(
        path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
    )


def prompts(served: Served) -> dict[str, str]:
    """Prompts on record by the wire they came over."""
    served.verified()
    columns = select(tables.request.c.wire, tables.request.c.prompt)
    with opened(served.gateway.settings.ledger_url) as engine, engine.connect() as connection:
        return {wire: prompt for wire, prompt in connection.execute(columns) if prompt}


def test_by_default_no_text_is_on_disk_or_in_a_log(
    start: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert Settings().ledger.text == "hash"
    assert not Settings().telemetry.capture_content
    assert not Settings().cache.on
    served = start(text="hash")
    for path in BODIES:
        for stream in (False, True):
            ask(served, path=path, stream=stream)
    written = on_disk(served)
    assert len(written) > 10_000
    for text in (ASKED, SAID, "someone@", "planted"):
        assert text not in written
        assert text not in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("setting", "wish", "key", "kept"),
    [
        ("none", None, "team", "none"),
        ("hash", None, "team", "hash"),
        ("redacted", None, "team", "redacted"),
        ("full", None, "team", "full"),
        ("full", "none", "team", "none"),
        ("full", "redacted", "team", "redacted"),
        ("hash", "full", "team", "hash"),
        ("none", "hash", "team", "none"),
        ("hash", "full", "root", "full"),
        ("full", "none", "root", "none"),
    ],
)
def test_everybody_may_have_less_kept_and_admins_more(
    start: Callable[..., Served],
    setting: str,
    wish: str | None,
    key: str,
    kept: str,
    stream: bool,
) -> None:
    served = start(text=setting)
    wishes: dict[str, Any] = {"pointsman": {"keep": wish}} if wish else {}
    answer = ask(served, key, stream=stream, **wishes)
    served.verified()
    headers = {"authorization": "Bearer root-key-1"}
    name = answer.headers["x-pointsman-decision-id"]
    record = served.client.get(f"/v1/decisions/{name}", headers=headers).json()
    assert (record["request"]["prompt_sha256"] is None) == (kept == "none")
    shown = {
        "full": (ASKED, SAID),
        "redacted": ("planted question of [email]", SAID),
    }.get(kept, (None, None))
    assert (record["request"]["prompt"], record["result"]["answer"]) == shown


def test_a_route_may_keep_more_or_less_than_the_others(start: Callable[..., Served]) -> None:
    served = start(text="none", text_by_route={"/v1/messages": "full", "/v1/responses": "hash"})
    for path in BODIES:
        ask(served, path=path)
    assert prompts(served) == {"anthropic.messages": ASKED}
    headers = {"authorization": "Bearer root-key-1"}
    wish = {**headers, "x-pointsman-keep": "full"}
    body = {"model": "a", **BODIES["/v1/chat/completions"]}
    assert served.client.post("/v1/chat/completions", json=body, headers=wish).status_code == 200
    assert prompts(served) == {"anthropic.messages": ASKED, "openai.chat": ASKED}
    bad = {"model": "a", **BODIES["/v1/chat/completions"], "pointsman": {"keep": "all"}}
    refused = served.client.post("/v1/chat/completions", json=bad, headers=headers)
    assert refused.json()["error"]["param"] == "pointsman.keep"


def test_every_wire_has_a_route() -> None:
    settings = LedgerSettings(text="none", text_by_route={"/v1/embeddings": "full"})
    for wire in ("openai.chat", "anthropic.messages", "openai.responses", "openai.completions"):
        assert settings.keeps(wire, None, admin=False) == "none"
    assert settings.keeps("openai.embeddings", None, admin=False) == "full"


def test_what_is_kept_is_for_nobody_else_on_the_machine(start: Callable[..., Served]) -> None:
    served = start(text="full")
    ask(served)
    ask(served, path="/v1/responses", store=True)
    served.verified()
    databases = sorted(served.gateway.settings.data_dir.rglob("*.db*"))
    assert {"ledger.db", "responses.db"} <= {path.name for path in databases}
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in databases} == {
        path.name: "0o0" for path in databases
    }
