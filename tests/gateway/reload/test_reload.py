from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.errors import ExpertUnavailableError
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from gateway.access.watch import KeyWatch
from gateway.errors import LedgerError
from gateway.ledger.database import opened
from gateway.ledger.verify import verify_ledger
from tests.conftest import Serve
from tests.gateway.reload.conftest import Running, Start, expert
from tests.gateway.reload.held import WORDS, Held, held_provider

STREAMS = 200


def test_a_changed_file_is_taken_over_in_one_step(running: Running, provider: FakeProvider) -> None:
    assert running.ask("c").status_code == 404
    answer = running.reload(experts=[expert("b", provider.url), expert("c", provider.url)])
    assert answer.status_code == 200, answer.text
    assert (answer.json()["number"], answer.json()["changed"]) == (2, True)
    assert [running.ask(name).status_code for name in "abc"] == [404, 200, 200]
    listed = {model["id"] for model in running.client.get("/v1/models").json()["data"]}
    assert {"b", "c"} <= listed
    assert "a" not in listed
    assert running.client.get("/health/ready").json()["experts"] == ["b", "c"]


def test_the_same_file_changes_nothing(running: Running) -> None:
    before = running.gateway
    answer = running.client.post("/admin/config/reload")
    assert (answer.json()["number"], answer.json()["changed"]) == (1, False)
    assert running.gateway is before


def test_a_bad_file_leaves_everything_as_it_was_and_says_why(
    running: Running, provider: FakeProvider
) -> None:
    before = running.gateway
    broken = expert("a", provider.url)
    answer = running.reload(experts=[{**broken, "prices": {"input": -1, "output": 2}}], keyz=[])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "faulty_config"
    faults = {fault["key"]: fault for fault in answer.json()["faults"]}
    assert faults["experts[0].prices.input"]["message"] == "must be ≥ 0 (got -1)"
    assert faults["experts[0].prices.input"]["line"] == 11
    assert "did you mean `keys`?" in faults["keyz"]["message"]
    assert running.gateway is before
    assert running.config()["number"] == 1
    assert running.ask("b").status_code == 200


def test_one_that_fails_half_way_leaves_the_figures_to_what_serves(
    running: Running, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_watch: KeyWatch) -> None:
        raise LedgerError("away")

    with monkeypatch.context() as patches:
        patches.setattr(KeyWatch, "read", away)
        assert running.reload(experts=[expert("c", provider.url)]).status_code == 503
    metrics = running.client.get("/metrics").text
    assert 'breaker_state{expert="a"}' in metrics
    assert 'breaker_state{expert="c"}' not in metrics


def test_secrets_that_are_not_set_are_told_before_anything_changes(
    running: Running, provider: FakeProvider
) -> None:
    answer = running.reload(experts=[expert("a", provider.url, api_key="env:NOT_SET_AT_ALL")])
    assert answer.status_code == 400
    assert "NOT_SET_AT_ALL" in answer.json()["error"]["message"]
    assert running.ask("b").status_code == 200


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"server": {"port": 8001}}, "server.port"),
        ({"server": {"workers": 2}}, "server.workers"),
        ({"server": {"tls_cert": None, "admin_port": 8099}}, "server.admin_port"),
        ({"data_dir": "elsewhere"}, "data_dir"),
        ({"ledger": {"url": "sqlite:///elsewhere.db"}}, "ledger.url"),
    ],
)
def test_what_only_a_restart_can_change_is_refused(
    running: Running, section: dict[str, Any], key: str
) -> None:
    answer = running.reload(**section)
    assert answer.status_code == 400
    assert [fault["key"] for fault in answer.json()["faults"]] == [key]
    assert "restart" in answer.json()["error"]["message"]
    assert running.config()["number"] == 1


def test_unchanged_experts_go_on_as_they_are(running: Running, provider: FakeProvider) -> None:
    before = dict(running.gateway.pool.experts)
    assert running.ask("a").status_code == 200
    connections = provider.connections
    changed = expert("b", provider.url, context_tokens=1000)
    assert running.reload(experts=[expert("a", provider.url), changed]).status_code == 200
    after = running.gateway.pool.experts
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    assert running.ask("a").status_code == 200
    assert provider.connections == connections, "the connection is kept"


def test_books_and_counters_survive(running: Running, provider: FakeProvider) -> None:
    assert running.ask("a").status_code == 200
    assert running.reload(experts=[expert("b", provider.url)]).status_code == 200
    assert running.ask("b").status_code == 200
    metrics = running.client.get("/metrics").text
    assert "pointsman_config_number 2.0" in metrics
    for name in "ab":
        (line,) = re.findall(rf'pointsman_requests_total{{.*expert="{name}".*}} (.*)', metrics)
        assert float(line) == 1
    with opened(running.settings["ledger"]["url"]) as engine:
        verdict = verify_ledger(engine)
    assert verdict.faults == ()
    assert verdict.rows["request_result"] == 2


def test_keys_policies_and_aliases_change_with_it(running: Running, provider: FakeProvider) -> None:
    keys = [{"name": "op", "key": "long-enough", "admin": True}]
    answer = running.reload(keys=keys, aliases={"fast": "a"})
    assert answer.status_code == 200
    assert running.ask("fast").status_code == 401
    running.client.headers["authorization"] = "Bearer long-enough"
    assert running.ask("fast").status_code == 200


def test_a_rollback_serves_what_served_before_and_leaves_the_file(
    running: Running, provider: FakeProvider
) -> None:
    assert running.client.post("/admin/config/rollback").status_code == 409
    first = running.config()["digest"]
    assert running.reload(experts=[expert("c", provider.url)]).status_code == 200
    text = running.path.read_text()
    answer = running.client.post("/admin/config/rollback")
    assert (answer.json()["number"], answer.json()["reason"]) == (3, "rollback to 1")
    assert answer.json()["digest"] == first
    assert [running.ask(name).status_code for name in "ac"] == [200, 404]
    assert running.path.read_text() == text
    assert running.config()["file_digest"] != first
    assert running.client.post("/admin/config/rollback").status_code == 409
    assert running.client.post("/admin/config/reload").json()["number"] == 4


def test_a_posted_text_is_checked_and_changes_nothing(
    running: Running, provider: FakeProvider
) -> None:
    def check(text: str | bytes) -> httpx2.Response:
        return running.client.post("/admin/config/validate", content=text)

    good = f"experts: [{{id: z, base_url: '{provider.url}'}}]\nserver: {{port: 1}}\n"
    told = check(good).json()
    assert told["ok"]
    assert "no prices" in told["warnings"][0]
    assert any("server.port" in line for line in told["needs_restart"])
    told = check("experts: [{id: z}]").json()
    assert not told["ok"]
    assert told["faults"][0]["file"] == "posted"
    assert check(b"\xff\xfe").status_code == 400
    assert running.config()["number"] == 1
    assert running.ask("a").status_code == 200


def test_what_is_in_force_is_shown_without_secrets(start: Start, provider: FakeProvider) -> None:
    key = {"name": "op", "key": "s3cr3t-key", "admin": True}
    entry = expert("a", provider.url, api_key="s3cr3t-upstream")
    running = start(experts=[entry], keys=[key])
    assert running.client.get("/admin/config").status_code == 401
    running.client.headers["authorization"] = "Bearer s3cr3t-key"
    answer = running.client.get("/admin/config")
    assert "s3cr3t" not in answer.text
    told = answer.json()
    assert told["settings"]["experts"][0]["api_key"] == "***"
    assert told["file"] == str(running.path)
    assert told["file_digest"] == told["digest"]
    assert [note["number"] for note in told["processes"]] == [1]


def test_a_gateway_without_a_file_says_so(serve: Serve) -> None:
    served = serve({"a": ScriptedExpert(ExpertCard("a"), says("Hello"))})
    assert served.client.get("/admin/config").json()["number"] == 1
    assert served.client.post("/admin/config/reload").status_code == 409
    assert served.client.post("/admin/config/validate", content="").status_code == 409


def test_requests_under_way_lose_nothing_and_deleted_experts_finish(
    start: Start, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_provider() as held:
        running = start(experts=[expert("old", held.url), expert("stays", provider.url)])
        closed = closings(running.gateway.pool.experts["old"], monkeypatch)
        with ThreadPoolExecutor(STREAMS) as threads:
            texts = flying(running, held, threads)
            answer = running.reload(experts=[expert("stays", provider.url)])
            assert answer.status_code == 200, answer.text
            assert running.ask("old").status_code == 404
            assert running.ask("stays").status_code == 200
            serving = {each["number"]: each["requests"] for each in running.config()["serving"]}
            assert serving == {1: STREAMS, 2: 1}
            assert closed == []
            (leaving,) = [each for each in running.experts() if each["leaving"]]
            assert (leaving["id"], leaving["in_flight"]) == ("old", STREAMS)
            assert leaving["endpoints"][0]["in_flight"] == STREAMS
            held.let_go()
            assert [text.result(timeout=60) for text in texts] == ["".join(WORDS)] * STREAMS
        assert [each["number"] for each in running.config()["serving"]] == [2]
        assert closed == ["old"]
        assert [each["id"] for each in running.experts()] == ["stays"]
    with opened(running.settings["ledger"]["url"]) as engine:
        verdict = verify_ledger(engine)
    assert verdict.faults == ()
    assert (verdict.rows["request_result"], verdict.open_attempts) == (STREAMS + 1, 0)


def flying(running: Running, held: Held, threads: ThreadPoolExecutor) -> list[Any]:
    """Streams of the expert `old`, every one of them half-way."""
    held.expect(STREAMS)
    texts = [threads.submit(streamed, running.url, "old") for _ in range(STREAMS)]
    assert held.all_wait.wait(timeout=60)
    return texts


def streamed(url: str, model: str) -> str:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    text, done = "", False
    with httpx2.stream(
        "POST", f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False
    ) as answer:
        for line in answer.iter_lines():
            done = done or line == "data: [DONE]"
            if line.startswith("data: {"):
                (choice,) = httpx2.Response(200, content=line[6:]).json()["choices"]
                text += choice["delta"].get("content") or ""
    assert done
    return text


def closings(watched: Expert, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Filled with the expert's id whenever it is closed."""
    found: list[str] = []
    close = watched.aclose

    async def recorded() -> None:
        found.append(watched.card.expert_id)
        await close()

    monkeypatch.setattr(watched, "aclose", recorded)
    return found


def test_breakers_taken_slots_and_counted_limits_survive(
    start: Start, provider: FakeProvider
) -> None:
    limit = {"requests": 1, "per": "hour"}
    keys = [{"name": "op", "key": "long-enough", "admin": True, "limits": [limit]}]
    experts = [expert(name, provider.url, max_concurrency=1) for name in "ab"]
    running = start(experts=experts, keys=keys)
    running.client.headers["authorization"] = "Bearer long-enough"
    assert running.ask("a").status_code == 200
    before = running.gateway.lasting.traffic
    assert before.slots.try_acquire("a")
    assert before.slots.try_acquire("b")
    answer = running.reload(experts=[experts[0], {**experts[1], "max_concurrency": 2}])
    assert answer.status_code == 200, answer.text
    after = running.gateway.lasting.traffic
    assert after.health is before.health
    assert [after.slots.try_acquire(name) for name in "ab"] == [False, True]
    before.slots.release("a")
    assert after.slots.try_acquire("a")
    assert running.ask("a").status_code == 429, "the request before the reload counts"


def test_the_roster_says_who_is_out_of_service(start: Start, provider: FakeProvider) -> None:
    entry = expert(
        "b", "", base_urls=[provider.url, provider.url.replace("127.0.0.1", "localhost")]
    )
    del entry["base_url"]
    running = start(experts=[expert("a", provider.url), entry])
    health = running.gateway.lasting.traffic.health
    for _ in range(20):
        health.record("a", ExpertUnavailableError("a", "down"))
    a, b = running.experts()
    assert (a["id"], a["health"]) == ("a", "open")
    assert a["wait_s"] > 0
    assert (b["id"], b["health"], len(b["endpoints"])) == ("b", "closed", 2)


def test_a_new_configurations_secrets_are_kept_out_of_errors_too(
    running: Running, provider: FakeProvider
) -> None:
    """A value without any form by which it could be known as a secret."""
    planted = "plainwordsnothingmore"
    assert running.reload(experts=[expert("c", provider.url, api_key=planted)]).status_code == 200
    provider.script.append(Reply(status=400, error={"message": f"no such key: {planted}"}))
    answer = running.ask("c")
    assert answer.status_code >= 400
    assert "no such key" in answer.text
    assert planted not in answer.text
