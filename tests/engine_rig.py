"""A gateway before a supervised engine, and whoever watches both."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from experts.engines.keeper import Backoff, Timing
from experts.engines.states import EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from gateway.engines.local import EngineEndpoint, RunningEngines
from gateway.engines.specs import engine_entries, spec_of
from gateway.residency.desk import desk_for
from gateway.residency.first import steward_of
from gateway.running import background_server, make_app
from gateway.settings.root import Settings

PATIENCE_S = 300
_TRIES = 100
"""Until a gateway has heard of what became of an engine."""


@dataclass
class Rig:
    """A gateway whose first expert is on an engine.

    Attributes:
        supervisor: Of the engine.
        client: Of the gateway.
        engine: Its expert.
        changes: Every state of the engine that nobody has looked at.
    """

    supervisor: Supervisor
    client: httpx2.Client
    engine: str
    changes: queue.Queue[EngineState] = field(default_factory=queue.Queue)

    @property
    def state(self) -> EngineState:
        return self.supervisor.state(self.engine)

    def expect(self, status: EngineStatus, timeout_s: float = PATIENCE_S) -> EngineState:
        """The next change to that status."""
        while True:
            state = self.changes.get(timeout=timeout_s)
            if state.status is status:
                return state

    def ask(self, model: str, **body: Any) -> httpx2.Response:
        return self.client.post("/v1/chat/completions", json=asked(model, **body))

    def expect_out(self, model: str) -> None:
        """Requests that name an expert are told to come again, as soon as it is known here."""
        assert self._tried(model, lambda answer: answer.status_code == 503).headers["retry-after"]

    def expect_back(self, model: str) -> None:
        """Requests reach it again, as soon as it is known here."""
        self._tried(model, lambda answer: answer.headers.get("x-pointsman-expert") == model)

    def own(self, model: str, **body: Any) -> str:
        """The body of the first answer that is its own: where calls are hedged, an expert that is
        slow for once is stood in for."""
        answer = self._tried(
            model, lambda answer: answer.headers.get("x-pointsman-expert") == model, **body
        )
        return answer.text

    def _tried(
        self, model: str, right: Callable[[httpx2.Response], bool], **body: Any
    ) -> httpx2.Response:
        answers = (self.ask(model, **body) for _ in range(_TRIES))
        return next(answer for answer in answers if right(answer))

    def text(self, model: str) -> str:
        """What an expert says when nothing is left to chance."""
        answer = self.ask(model)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pointsman-expert"] == model
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said


def asked(model: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Who goes there?"}]
    return {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0, **body}


@contextmanager
def rigged(settings: Settings) -> Iterator[Rig]:
    """Run the one engine of `settings`, and a gateway before it."""
    changes: queue.Queue[EngineState] = queue.Queue()
    specs = [spec_of(entry, settings) for entry in engine_entries(settings)]
    timing = Timing(backoff=Backoff(first_s=0.0), drain_s=PATIENCE_S)
    with ExitStack() as stack:
        desk = stack.enter_context(desk_for(steward_of(settings)))

        def told(state: EngineState) -> None:
            desk.told(state)
            changes.put(state)

        logs = settings.data_dir / "logs"
        supervisor = stack.enter_context(
            Supervisor(specs, logs, on_change=told, timing=timing, drain=desk.drain)
        )
        stack.enter_context(desk.looking_after(supervisor))
        [name] = [spec.expert_id for spec in specs]
        url, key = supervisor.base_url(name), supervisor.api_key(name)
        endpoint = EngineEndpoint(url, None, key, name)
        endpoints = dict.fromkeys(supervisor.state(name).serves, endpoint)
        engines = RunningEngines(endpoints, str(desk.path))
        url = stack.enter_context(background_server(make_app(settings, engines, seed=0)))
        client = stack.enter_context(
            httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        )
        yield Rig(supervisor, client, name, changes)
