"""Resources that many tests share, and the rule that no test leaves this machine."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import hypothesis
import pytest
from hypothesis.internal.conjecture import providers
from threadpoolctl import threadpool_limits

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, fake_provider
from experts.http.openai_compatible import OpenAICompatibleExpert
from gateway.app import create_app
from gateway.engines.local import NO_ENGINES, RunningEngines
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from gateway.ledger.verify import LedgerFindings, verify_ledger
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.wiring import build_gateway

_LOOPBACK = ("127.", "::1", "localhost")

# A slow machine is no counterexample, and a lucky find no change's fault: every run tries the same
# examples. `pytest --hypothesis-profile=search` tries others each time.
hypothesis.settings.register_profile(
    "search", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "certain",
    hypothesis.settings.get_profile("search"),
    derandomize=True,
    database=None,
    print_blob=True,
)
hypothesis.settings.load_profile("certain")
# It also draws constants of the modules that happen to be loaded, others in each process.
providers.is_local_module_file = lambda path: False  # type: ignore[attr-defined, assignment]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Products here are small: two threads would mostly wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            assert host.startswith(_LOOPBACK), f"a test tried to reach {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        yield running


@pytest.fixture
def spare() -> Iterator[FakeProvider]:
    """A second one."""
    with fake_provider() as running:
        yield running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that answers at `url`; `client` talks to it."""

    url: str
    gateway: Gateway
    client: httpx2.Client

    def ask(self, model: str = "auto", text: str = "Hi", **fields: Any) -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def record(self, answer: httpx2.Response) -> dict[str, Any]:
        decision_id = answer.headers["x-pointsman-decision-id"]
        found: dict[str, Any] = self.client.get(f"/v1/decisions/{decision_id}").json()
        return found

    def verified(self) -> LedgerFindings:
        # The last rows of an answer may still be on their way when the client has all of it.
        anyio.run(self.gateway.ledger.flush)
        with opened(self.gateway.settings.ledger_url) as engine:
            return verify_ledger(engine)

    def totals(self) -> dict[str, Any]:
        anyio.run(self.gateway.ledger.flush)
        with opened(self.gateway.settings.ledger_url) as engine:
            return LedgerReader(engine).totals()


Serve = Callable[..., Served]


@contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    """Gateways that keep what they know in `folder`, until the block is left."""
    with ExitStack() as stack:

        def start(
            experts: Mapping[str, Expert],
            admin_port: int | None = None,
            engines: RunningEngines = NO_ENGINES,
            **sections: Any,
        ) -> Served:
            entries = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in experts]
            # Tests look at texts; that none are kept unless somebody says so has a test of its own.
            kept = {"url": f"sqlite:///{folder}/ledger.db", "text": "full"}
            ledger = {**kept, **sections.pop("ledger", {})}
            settings = Settings.model_validate(
                {"experts": entries, "ledger": ledger, "data_dir": str(folder), **sections}
            )
            gateway = build_gateway(settings, experts, seed=1, engines=engines)
            app = create_app(gateway, admin_port=admin_port)
            url = stack.enter_context(background_server(app))
            client = httpx2.Client(base_url=url, timeout=30.0, trust_env=False)
            return Served(url, gateway, stack.enter_context(client))

        yield start


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Brought up to date once: that takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    with opened(f"sqlite:///{path}"):
        return path


@pytest.fixture
def serve(tmp_path: Path, empty_ledger: Path) -> Iterator[Serve]:
    """Start gateways over given experts; settings sections as keyword arguments."""
    shutil.copy(empty_ledger, tmp_path)
    with serving(tmp_path) as start:
        yield start


@pytest.fixture
def remote() -> Callable[..., Expert]:
    """An expert behind a loopback provider."""

    def make(name: str, url: str, prices: Prices | None = None, **card: Any) -> Expert:
        priced = prices or Prices(1.0, 2.0)
        return OpenAICompatibleExpert(ExpertCard(name, prices=priced, **card), url, "m")

    return make


@pytest.fixture
def one(serve: Serve, remote: Callable[..., Expert], provider: FakeProvider) -> Served:
    """A gateway over the expert `small`, which `provider` answers for."""
    return serve({"small": remote("small", provider.url)})
