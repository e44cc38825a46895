"""docker-compose.yml: both profiles are whole, keep to this machine, and fit their configuration.

There is no Docker here: what can be told without one is told by the file itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import run
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.settings.load import load_settings
from gateway.settings.local import VllmExpert
from gateway.settings.root import Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROFILES = ("gpu", "cpu")


def running(profile: str) -> dict[str, Any]:
    return {name: one for name, one in SERVICES.items() if profile in one["profiles"]}


def configured() -> Settings:
    path = SERVICES["gateway"]["command"][-1].replace("/etc/pointsman/", "config/")
    return load_settings(ROOT / path)


def secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from secrets_in(each)
    elif isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_brings_up_the_whole(profile: str) -> None:
    names = {name.removesuffix(f"-{profile}") for name in running(profile)}
    assert names == {"gateway", "postgres", "valkey", "general", "coder"}
    waited_for = SERVICES["gateway"]["depends_on"]
    for name in running(profile).keys() - {"gateway"}:
        assert waited_for[name]["condition"] == "service_healthy"
        assert SERVICES[name]["healthcheck"]["test"]
    # One of the other profile must not be waited for, one of both must.
    for name, how in waited_for.items():
        assert how.get("required", True) == (set(PROFILES) <= set(SERVICES[name]["profiles"]))


def test_the_configuration_is_given_all_it_reads_from_the_environment() -> None:
    settings = configured()
    given = SERVICES["gateway"]["environment"]
    assert set(secrets_in(settings.model_dump())) == set(given)
    # Every one is demanded, none has a value that is written down.
    assert all(re.search(r"\$\{\w+:\?[^}]+\}", value) for value in given.values())
    plain = {name: re.sub(r"\$\{[^}]+\}", "x", value) for name, value in given.items()}
    addresses = [
        urlsplit(plain[name]).hostname for name in ("POINTSMAN_LEDGER", "POINTSMAN_SHARED")
    ]
    assert addresses == ["postgres", "valkey"]


@pytest.mark.parametrize("profile", PROFILES)
def test_experts_are_where_the_configuration_looks_for_them(profile: str) -> None:
    for expert in configured().experts:
        if not isinstance(expert, VllmExpert):
            continue
        server = SERVICES[f"{expert.id}-{profile}"]
        url = urlsplit(expert.base_url)
        assert [url.hostname] == server["networks"]["default"]["aliases"]
        assert url.port == 8000, "vLLM's own port"
        assert f"--served-model-name={expert.model}" in server["command"]
        assert f"--max-model-len={expert.context_tokens}" in server["command"]
        assert "VLLM_API_KEY" in server["environment"]


def test_gpu_experts_have_a_device_each_and_cpu_experts_none() -> None:
    taken = [
        device["device_ids"]
        for name in ("general-gpu", "coder-gpu")
        for device in SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
        if device["capabilities"] == ["gpu"]
    ]
    assert taken == [["0"], ["1"]]
    assert not any("deploy" in SERVICES[name] for name in ("general-cpu", "coder-cpu"))


def test_who_is_stopped_has_time_to_finish_what_is_under_way() -> None:
    waits_s = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert waits_s > configured().server.grace_s + 2


def test_images_are_pinned_and_ports_bound_to_this_machine() -> None:
    for name, one in SERVICES.items():
        assert ("build" in one) == (name == "gateway")
        assert re.search(r":v?\d+\.\d+", one.get("image", ":1.0")), name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        assert {volume.split(":")[0] for volume in one.get("volumes", [])} <= {
            *COMPOSE["volumes"], "./config",
        }  # fmt: skip


class _Server(BaseHTTPRequestHandler):
    """Lists a model; whether it writes is another matter."""

    writes = True

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "general"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert (asked["model"], self.headers["authorization"]) == ("general", "Bearer sesame")
        self._answer(200 if self.writes else 500, {"choices": [{"text": "!"}]})

    def _answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("writes", [True, False])
def test_who_does_not_write_is_not_healthy(writes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Server, "writes", writes)
    program = SERVICES["general-gpu"]["healthcheck"]["test"][-1]
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        moved = program.replace("127.0.0.1:8000", f"127.0.0.1:{server.server_port}")
        environment = {"VLLM_API_KEY": "sesame", "no_proxy": "*"}
        done = run([sys.executable, "-c", moved], env=environment, check=False, capture_output=True)
        server.shutdown()
        thread.join()
    assert (done.returncode == 0) == writes, done.stderr
