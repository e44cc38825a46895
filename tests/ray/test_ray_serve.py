"""An engine on a real Ray cluster of this machine, with an application that needs no model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.states import EngineStatus
from experts.engines.supervisor import Supervisor
from experts.errors import EngineStartError
from experts.fakes.provider import fake_provider
from gateway.engines.specs import engine_entries, spec_of
from gateway.settings.root import Settings
from tests.engine_rig import Rig, rigged
from tests.ports import free_port
from tests.ray.conftest import Cluster

pytestmark = pytest.mark.ray

PATIENCE_S = 240
APP = "tests.ray.words_app:build"


@dataclass(frozen=True)
class Serve:
    """Serve of a cluster, with an application `other` that is not ours."""

    cluster: Cluster
    client: httpx2.Client
    port: int

    def entry(self, name: str, **more: Any) -> dict[str, Any]:
        here = {
            "kind": "ray",
            "dashboard": self.cluster.dashboard,
            "token": "env:RAY_AUTH_TOKEN",
            "base_url": f"http://127.0.0.1:{self.port}/{name}/v1",
            "import_path": APP,
            "args": {"name": name, "load_s": 8},
            "ready_s": PATIENCE_S,
        }
        return {"id": name, **here, **more}

    def applications(self) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get("/api/serve/applications/").json()
        applications: dict[str, Any] = told["applications"]
        return applications

    def pids(self, name: str) -> list[int]:
        [deployment] = self.applications()[name]["deployments"].values()
        return [replica["pid"] for replica in deployment["replicas"]]


@pytest.fixture(scope="module")
def serve(cluster: Cluster) -> Iterator[Serve]:
    authorized = {"authorization": f"Bearer {cluster.token}"}
    with httpx2.Client(
        base_url=cluster.dashboard, headers=authorized, timeout=PATIENCE_S, trust_env=False
    ) as client:
        yield Serve(cluster, client, free_port())


@pytest.fixture(scope="module")
def other(serve: Serve) -> None:
    """Somebody else's application, in the Serve that listens where ours are to answer."""
    listen = {"host": "127.0.0.1", "port": serve.port}
    one = {"name": "other", "route_prefix": "/other", "import_path": APP, "args": {"name": "other"}}
    body = {"http_options": listen, "applications": [one]}
    answer = serve.client.put("/api/serve/applications/", json=body)
    assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def rig(serve: Serve, other: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("ray")
    with fake_provider() as provider:
        settings = Settings.model_validate(
            {
                "experts": [
                    serve.entry("tiny", hedge_after_s=1.5),
                    {"id": "stand-in", "base_url": provider.url},
                ],
                "execution": {"fallbacks": {"tiny": ["stand-in"]}, "max_retries": 0},
                "breaker": {"failures": 1, "open_s": 0.05, "max_open_s": 0.05},
                "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
                "data_dir": str(folder),
            }
        )
        with rigged(settings) as rig:
            yield rig


def test_what_is_killed_is_noticed_stood_in_for_and_back(serve: Serve, rig: Rig) -> None:
    [before] = serve.pids("tiny")
    assert f'"tiny says {before}"' in rig.own("tiny")
    streamed = rig.own("tiny", stream=True)
    assert str(before) in streamed
    assert streamed.endswith("data: [DONE]\n\n")

    os.kill(before, signal.SIGKILL)
    down = rig.expect(EngineStatus.DOWN)
    assert "A replica's health check failed" in down.last_error
    # Where the gateway has not heard of it yet Serve holds the call, and the stand-in is asked too.
    assert rig.ask("tiny").headers["x-pointsman-expert"] == "stand-in"
    rig.expect(EngineStatus.READY)
    said = rig.own("tiny")
    [after] = serve.pids("tiny")
    assert before != after
    assert f'"tiny says {after}"' in said
    assert rig.state.restarts == 1


def test_what_is_stopped_is_deleted_and_nothing_else(serve: Serve, rig: Rig) -> None:
    others = serve.pids("other")
    rig.supervisor.stop("tiny")
    assert set(serve.applications()) == {"other"}
    rig.supervisor.start("tiny")
    rig.expect_back("tiny")
    assert serve.pids("other") == others


def test_what_can_t_be_deployed_says_why(serve: Serve, tmp_path: Path) -> None:
    lost = serve.entry("lost", import_path="nowhere:build")
    for entry, why in ((lost, "No module named 'nowhere'"), (serve.entry("other"), "somebody")):
        settings = Settings.model_validate({"experts": [entry], "data_dir": tmp_path})
        [spec] = [spec_of(each, settings) for each in engine_entries(settings)]
        with pytest.raises(EngineStartError, match=why), Supervisor([spec], tmp_path):
            pass
    assert "other" in serve.applications()
    assert "lost" not in serve.applications()
