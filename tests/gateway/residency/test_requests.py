"""Requests whose expert sleeps, through the whole gateway, with engines that only pretend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from experts.base import Expert
from experts.engines.load import EngineLoad
from experts.engines.states import ENDED, EngineStatus
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from gateway.cli.main import app
from gateway.engines.local import EngineEndpoint, RunningEngines
from tests.conftest import Serve, Served
from tests.gateway.raw import chat, line, post, until
from tests.gateway.residency.pretended import FakeEngines, owner

Remote = Callable[..., Expert]
QUALITIES = {"a": 0.6, "b": 0.8}


@contextmanager
def gateway(
    serve: Serve, remote: Remote, **sections: object
) -> Iterator[tuple[Served, FakeEngines, FakeProvider]]:
    with owner(wake_s=20.0) as engines, fake_provider() as provider:
        endpoints = {n: EngineEndpoint(provider.url, engine=n) for n in "ab"}
        running = RunningEngines(endpoints, str(engines.desk.path))
        experts = {n: remote(n, provider.url, quality_prior=QUALITIES[n]) for n in "ab"}
        residency = {"memory_gb": 1, "experts": {n: {"memory_gb": 1} for n in "ab"}}
        served = serve(experts, engines=running, residency=residency, **sections)
        yield served, engines, provider


def test_a_request_wakes_its_expert_and_those_that_wait_begin_together(
    serve: Serve, remote: Remote
) -> None:
    with gateway(serve, remote) as (served, engines, _):
        assert served.ask("a").status_code == 200
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(served.ask, ["b"] * 4))
        assert [answer.status_code for answer in answers] == [200] * 4
        assert engines.moves == ["a wakes", "a sleeps", "b wakes"]
        told = served.client.get("/admin/experts").json()["experts"]
        states = {each["id"]: each["engine"]["status"] for each in told}
        assert states == {"a": "asleep", "b": "ready"}
        assert served.verified().faults == ()


def test_prometheus_hears_how_the_engines_are(serve: Serve, remote: Remote) -> None:
    with gateway(serve, remote) as (served, engines, _):
        assert served.ask("a").status_code == 200
        assert served.ask("b").status_code == 200
        engines.loads["b"] = lambda: EngineLoad(3, 2, 0.25, 30, 40)
        families = text_string_to_metric_families(served.client.get("/metrics").text)
        found = {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("pointsman_engine_")
        }
        told = {
            **{"status a asleep": 1, "status b ready": 1},
            **{"sleep_level a": ENDED, "sleep_level b": 0},
            **{"wakes_total a": 1, "wakes_total b": 1},
            **{"restarts_total a": 0, "restarts_total b": 0},
            **{"requests_held a": 0, "requests_held b": 0},
            **{"requests_running b": 3, "requests_waiting b": 2, "kv_cache_ratio b": 0.25},
            "prefix_cache_hit_tokens_total b": 30,
            "prefix_cache_query_tokens_total b": 40,
        }
        assert found == {f"pointsman_engine_{name}": value for name, value in told.items()}


def test_waiting_is_weighed_against_quality_and_said(serve: Serve, remote: Remote) -> None:
    policies = {"patient": {"wait_weight": 0}, "hasty": {"wait_weight": 0.05}}
    with gateway(serve, remote, routing={"policies": policies, "epsilon": 0}) as (served, *_):
        assert served.ask("a").status_code == 200
        body = {"model": "auto:hasty", "messages": [{"role": "user", "content": "Hi"}]}
        route = served.client.post("/v1/route", json=body).json()
        assert route["expert"] == "a"
        assert "b has" in route["explanation"]
        assert "20.0 s until it can begin" in route["explanation"]
        answer = served.ask("auto:patient")
        assert answer.headers["x-pointsman-expert"] == "b"
        assert "waits:b" in served.record(answer)["flags"]


def test_a_stopped_expert_is_not_chosen_and_named_it_is_refused(
    serve: Serve, remote: Remote
) -> None:
    with gateway(serve, remote) as (served, _, _):
        assert served.client.post("/admin/experts/b/stop").json()["engine"]["status"] == "stopped"
        answer = served.ask("auto:best")
        assert answer.headers["x-pointsman-expert"] == "a"
        refused = served.ask("b")
        assert (refused.status_code, "stopped by hand" in refused.text) == (503, True)
        conflict = served.client.post("/admin/experts/b/wake")
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "move_conflict")
        assert served.client.post("/admin/experts/b/start").status_code == 200
        assert served.ask("b").status_code == 200


def test_a_client_that_leaves_while_it_waits_is_taken_out(serve: Serve, remote: Remote) -> None:
    with gateway(serve, remote) as (served, engines, provider):
        assert served.ask("a").status_code == 200
        provider.script.append(Reply(stall_after=1))
        body = {"model": "a", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        at = served.gateway.lasting.line
        assert at is not None
        with served.client.stream("POST", "/v1/chat/completions", json=body) as held:
            pieces = held.iter_bytes()
            next(pieces)
            with line(served.url) as leaving:
                leaving.send(post(chat(model="b")))
                until(lambda: at.residents.waiting("b") == 1)
            until(lambda: at.residents.waiting("b") == 0)
            assert engines.states()[0].status is EngineStatus.READY


def test_the_command_line_moves_engines_and_shows_them(
    serve: Serve, remote: Remote, tmp_path: Path
) -> None:
    config = tmp_path / "pointsman.yaml"
    config.write_text(
        'experts: [{id: a, base_url: "http://127.0.0.1:9/v1"}, {kind: calculator, id: sums}]'
    )

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["experts", *words, "--config", str(config)])

    with gateway(serve, remote) as (served, _, _):
        at = ("--url", served.url)
        assert run("wake", "a", *at).stdout.startswith("a is ready")
        rows = json.loads(run("list", *at, "--json").stdout)
        assert [row.get("engine", {}).get("tier") for row in rows] == ["awake", None]
        assert "ready" in run("list", *at).stdout
        assert run("stop", "a", *at).stdout == "a is stopped\n"
        refused = run("sleep", "a", *at)
        assert refused.exit_code != 0
        assert "a is stopped: start it first" in str(refused.exception)
