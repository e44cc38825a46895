"""What `/metrics` says after real requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.http.openai_compatible import OpenAICompatibleExpert
from gateway.app import create_app
from gateway.pool.pool import build_experts
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.wiring import build_gateway
from tests.gateway.raw import chat, line, post, until

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


@pytest.fixture
def two(serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider) -> Any:
    experts = {
        "first": remote("first", provider.url, quality_prior=0.9),
        "second": remote("second", spare.url, quality_prior=0.2),
    }
    return serve(experts, routing={"epsilon": 0.0}, telemetry={"key_labels": True})


class Figures:
    def __init__(self, client: httpx2.Client) -> None:
        text = client.get("/metrics").text
        self.samples = [s for f in text_string_to_metric_families(text) for s in f.samples]

    def get(self, name: str, **labels: str) -> float:
        """The sum over all series that carry these labels."""
        wanted = labels.items()
        return sum(s.value for s in self.samples if s.name == name and wanted <= s.labels.items())

    @property
    def names(self) -> set[str]:
        return {s.name for s in self.samples}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_is_counted_with_its_tokens_times_and_dollars(two: Any, stream: bool) -> None:
    assert two.ask("first", stream=stream).status_code == 200
    figures = Figures(two.client)
    asked = {"wire": "openai.chat", "expert": "first", "policy": "explicit", "status": "200"}
    assert figures.get("pointsman_requests_total", **asked) == 1
    assert figures.get("pointsman_tokens_total", expert="first", kind="input") == 10
    assert figures.get("pointsman_tokens_total", expert="first", kind="output") == 2
    assert figures.get("pointsman_cost_usd_total", expert="first") == pytest.approx(1.4e-5)
    assert figures.get("pointsman_wasted_cost_usd_total") == 0
    assert figures.get("pointsman_attempts_total", expert="first", status="ok") == 1
    assert figures.get("pointsman_request_seconds_count", stream=str(stream).lower()) == 1
    assert figures.get("pointsman_first_token_seconds_count", expert="first") == int(stream)
    assert figures.get("pointsman_token_seconds_count", expert="first") == int(stream)
    assert figures.get("pointsman_decisions_total", expert="first", policy="explicit") == 1
    assert figures.get("pointsman_key_requests_total", key="anonymous") == 1
    assert figures.get("pointsman_requests_in_flight") == 0


def test_overhead_is_the_part_that_is_not_upstream(two: Any) -> None:
    two.ask("first")
    figures = Figures(two.client)
    total = figures.get("pointsman_request_seconds_sum")
    upstream = figures.get("pointsman_attempt_seconds_sum")
    overhead = figures.get("pointsman_overhead_seconds_sum")
    assert 0 < overhead < total
    assert overhead == pytest.approx(total - upstream, abs=0.005)


def test_a_fallback_is_counted_where_it_went_and_why(two: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=500)
    assert two.ask().headers["x-pointsman-expert"] == "second"
    figures = Figures(two.client)
    assert figures.get("pointsman_attempt_errors_total", expert="first", kind="unavailable") == 1
    assert figures.get("pointsman_fallbacks_total", expert="second") == 1
    assert figures.get("pointsman_retries_total") == 0
    assert figures.get("pointsman_requests_total", expert="second", status="200") == 1
    assert figures.get("pointsman_decisions_total", expert="first") == 1


def test_a_cut_answer_is_waste(two: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("one two three", cut_after=2)
    two.ask("first", stream=True)
    figures = Figures(two.client)
    assert figures.get("pointsman_wasted_cost_usd_total", expert="first") > 0
    assert figures.get("pointsman_requests_total", status="502") == 1
    assert figures.get("pointsman_errors_total", kind="upstream_protocol") == 1


def test_a_request_refused_before_any_decision_says_why(two: Any) -> None:
    assert two.ask("nobody").status_code == 404
    assert two.client.post("/v1/chat/completions", content=b"{").status_code == 400
    figures = Figures(two.client)
    assert figures.get("pointsman_refusals_total") == 2
    assert figures.get("pointsman_requests_total", expert="none", policy="none") == 2
    assert figures.get("pointsman_requests_in_flight") == 0


def test_experts_in_and_out_of_service_are_told_apart(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply(status=500)
    experts = {"first": remote("first", provider.url), "second": remote("second", spare.url)}
    # Nothing is gained by waiting for it to come back.
    served = serve(experts, execution={"max_retries": 0, "max_wait_s": 0})
    for _ in range(20):
        served.ask("first")
    served.ask("second")
    figures = Figures(served.client)
    assert figures.get("pointsman_breaker_state", expert="first") == 2
    assert figures.get("pointsman_breaker_state", expert="second") == 0
    assert figures.get("pointsman_attempts_in_flight") == 0


def test_calls_that_go_on_and_calls_that_wait_are_counted(
    provider: FakeProvider, tmp_path: Path
) -> None:
    provider.otherwise = Reply(stall_after=0)
    entry = {"id": "small", "base_url": provider.url, "max_concurrency": 1}
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    settings = Settings.model_validate(
        {"experts": [entry], "ledger": ledger, "data_dir": str(tmp_path)}
    )
    gateway = build_gateway(settings, build_experts(settings, {}))
    with (
        background_server(create_app(gateway)) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        with ExitStack() as leaving:
            for _ in range(3):
                leaving.enter_context(line(url)).send(post(chat(model="small")))
            until(lambda: Figures(client).get("pointsman_queue_depth", expert="small") == 2)
            assert provider.stalled.wait(30)
            figures = Figures(client)
            assert figures.get("pointsman_attempts_in_flight", expert="small") == 1
            assert figures.get("pointsman_requests_in_flight") == 3
        until(lambda: Figures(client).get("pointsman_requests_in_flight") == 0)
        assert Figures(client).get("pointsman_queue_depth") == 0
        assert Figures(client).get("pointsman_attempts_in_flight") == 0


def test_what_a_provider_writes_never_becomes_a_label(two: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=400, error={"message": "no", "code": "Mallory was here!"})
    assert two.ask("first").status_code == 400
    figures = Figures(two.client)
    assert figures.get("pointsman_errors_total", kind="other") == 1
    assert not any("Mallory" in str(s.labels) for s in figures.samples)


def test_unpriced_and_free_answers_are_told_apart(serve: Serve, provider: FakeProvider) -> None:
    def expert(name: str, prices: Prices | None) -> Expert:
        return OpenAICompatibleExpert(ExpertCard(name, prices=prices), provider.url, "m")

    experts = {"free": expert("free", Prices(0, 0)), "unpriced": expert("unpriced", None)}
    served = serve(experts)
    served.ask("free")
    served.ask("unpriced")
    served.ask("unpriced")
    figures = Figures(served.client)
    assert figures.get("pointsman_zero_cost_requests_total") == 1
    assert figures.get("pointsman_unpriced_requests_total") == 2


def test_the_process_and_the_ledger_are_watched(two: Any) -> None:
    figures = Figures(two.client)
    assert figures.get("process_resident_memory_bytes") > 1e6
    assert figures.get("process_open_fds") > 0
    assert "process_cpu_seconds_total" in figures.names
    assert figures.get("pointsman_ledger_lost_rows_total") == 0
    assert figures.get("pointsman_ledger_lag_seconds") < 5
    assert "pointsman_event_loop_lag_seconds_count" in figures.names
