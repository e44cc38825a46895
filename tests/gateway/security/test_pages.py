"""What a browser that holds an operator's key can't be made to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider
from experts.fakes.scripted import ScriptedExpert, says
from gateway.dashboard.html import page
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]
SCRIPT = "<script>alert(1)</script>"
MARKUP = f"\"'><img src=x onerror=alert(1)>{SCRIPT}"
ROOT = {"name": "root", "key": "root-key-1", "role": "admin"}
BASIC = ("me", "root-key-1")


def test_what_strangers_wrote_is_shown_as_text(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    keys = [ROOT, {"name": MARKUP[:60], "key": "team-key-1", "project": MARKUP[:60]}]
    served = serve({"a": remote("a", provider.url)}, keys=keys, ledger={"text": "full"})
    headers = {"authorization": "Bearer team-key-1"}
    wishes = {"tags": {MARKUP: MARKUP}, "session": MARKUP}
    for model in ("a", "auto"):
        body = {"model": model, "messages": [{"role": "user", "content": MARKUP}]}
        sent = {**body, "user": MARKUP, "pointsman": wishes}
        asked = served.client.post("/v1/chat/completions", json=sent, headers=headers)
        assert asked.status_code == 200, asked.text
        comment = {"decision_id": asked.headers["x-pointsman-decision-id"], "score": 1}
        said = {**comment, "source": MARKUP, "objective": MARKUP, "comment": MARKUP}
        assert served.client.post("/v1/feedback", json=said, headers=headers).status_code == 200
    unknown = {"model": MARKUP, "messages": [{"role": "user", "content": "x"}]}
    refused = served.client.post("/v1/chat/completions", json=unknown, headers=headers)
    assert refused.headers["content-type"] == "application/json"
    served.verified()
    shown = served.client.get("/", auth=BASIC)
    assert "&lt;script&gt;alert(1)" in shown.text
    assert SCRIPT not in shown.text
    assert "<img" not in shown.text


def test_every_value_of_every_page_is_escaped() -> None:
    shown = page("interface.html", title=SCRIPT, version="1", routes=[(SCRIPT, SCRIPT, SCRIPT)])
    assert SCRIPT not in shown
    assert shown.count("&lt;script&gt;") == 5


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_run_nothing_load_nothing_and_are_framed_by_nobody(
    serve: Serve, remote: Remote, provider: FakeProvider, path: str
) -> None:
    served = serve({"a": remote("a", provider.url)}, keys=[ROOT])
    shown = served.client.get(path, auth=BASIC)
    assert shown.status_code == 200
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in shown.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert "script-src" not in policy
    assert shown.headers["x-frame-options"] == "DENY"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert "<script" not in shown.text
    assert re.findall(r"(?:src|href)=[\"'](?!/openapi\.json)[^\"'#]", shown.text) == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/admin/keys", "/v1/feedback"])
def test_a_page_of_another_site_gets_nothing_for_a_password_that_the_browser_keeps(
    serve: Serve, path: str
) -> None:
    expert = ScriptedExpert(ExpertCard("a"), says("Hello"))
    served = serve({"a": expert}, keys=[ROOT])
    body = json.dumps({"model": "a", "messages": [{"role": "user", "content": "Hi"}], "name": "x"})

    def sent(origin: str | None) -> int:
        headers = {"content-type": "text/plain", **({"origin": origin} if origin else {})}
        return served.client.post(path, content=body, auth=BASIC, headers=headers).status_code

    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
        assert sent(origin) == 403
    assert expert.calls == []
    for own in (None, "http://127.0.0.1:8000"):
        assert sent(own) != 403
    # A key in a header of its own is not what a browser adds: pages of other sites may have one.
    bearer = {"authorization": "Bearer root-key-1", "origin": "https://app.example"}
    answer = served.client.post("/v1/chat/completions", content=body, headers=bearer)
    assert answer.status_code == 200


def test_no_cookie_is_ever_set(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    served = serve({"a": remote("a", provider.url)}, keys=[ROOT])
    for path in ("/", "/docs", "/metrics", "/v1/models", "/admin/config", "/nothing"):
        assert "set-cookie" not in served.client.get(path, auth=BASIC).headers
    assert "set-cookie" not in served.client.get("/").headers


def slashed(served: Served, path: str, host: str) -> tuple[int, str]:
    headers = {"host": host, "authorization": "Bearer root-key-1"}
    answer = served.client.get(path, headers=headers)
    return answer.status_code, answer.headers.get("location", "")


def test_nobody_is_sent_where_a_host_header_says(serve: Serve) -> None:
    served = serve({"a": ScriptedExpert(ExpertCard("a"), says("Hi"))}, admin_port=1, keys=[ROOT])
    for path in ("/metrics/", "/admin/routers/", "/docs/", "/v1/route/", "//evil.example/", "/x//"):
        assert slashed(served, path, "evil.example") == (404, "")
