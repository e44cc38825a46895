from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from experts.fakes.provider import FakeProvider
from gateway.engines.local import local_engines
from gateway.reload.snapshots import Snapshots
from gateway.running import background_server, launched, serving_app
from gateway.settings.load import load_configuration
from gateway.state import Gateway


@dataclass(slots=True)
class Running:
    """A gateway with a configuration file that can be rewritten; `another` is one beside it."""

    path: Path
    app: Starlette
    client: httpx2.Client
    url: str
    settings: dict[str, Any]
    another: Callable[[], Running]

    @property
    def snapshots(self) -> Snapshots:
        snapshots: Snapshots = self.app.state.snapshots
        return snapshots

    @property
    def gateway(self) -> Gateway:
        return self.snapshots.current.gateway

    def write(self, **sections: Any) -> None:
        self.settings = {**self.settings, **sections}
        self.path.write_text(json.dumps(self.settings, indent=1))

    def reload(self, **sections: Any) -> httpx2.Response:
        self.write(**sections)
        return self.client.post("/admin/config/reload")

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/admin/config").json()
        return found

    def experts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get("/admin/experts").json()["experts"]
        return found

    def ask(self, model: str, **fields: Any) -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
        return self.client.post("/v1/chat/completions", json=body)


Start = Callable[..., Running]


def expert(name: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "base_url": url, "prices": {"input": 1, "output": 2}, **fields}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(**sections: Any) -> Running:
            path = tmp_path / "c.yaml"
            ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
            settings = {"ledger": ledger, "data_dir": str(tmp_path / "data"), **sections}
            path.write_text(json.dumps(settings, indent=1))
            configuration = load_configuration(path)
            engines = stack.enter_context(local_engines(configuration.settings))
            shared = stack.enter_context(launched(path, configuration, engines, {}, None))

            def worker() -> Running:
                app = serving_app(shared)
                url = stack.enter_context(background_server(app))
                client = httpx2.Client(base_url=url, timeout=30, trust_env=False)
                return Running(path, app, stack.enter_context(client), url, settings, worker)

            return worker()

        yield run


@pytest.fixture
def running(start: Start, provider: FakeProvider) -> Running:
    """Experts `a` and `b` behind one provider."""
    return start(experts=[expert("a", provider.url), expert("b", provider.url)])
