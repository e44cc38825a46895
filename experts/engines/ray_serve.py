"""One model in a Serve application on a Ray cluster that runs already."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from experts.engines.load import EngineLoad
from experts.engines.ray_api import MARK, Application, RayServeApi
from experts.engines.readiness import await_token
from experts.engines.vllm_api import VllmApi
from experts.errors import EngineMoveError, EngineStartError

_POLL_S = 0.5
_SILENT_S = 5.0
"""How long a dashboard is asked again that does not answer who stops."""
_GONE_S = 60.0
"""How long Ray may take to let replicas end and to give back what they held."""


@dataclass(frozen=True, slots=True)
class RaySpec:
    """What to deploy, and where.

    Attributes:
        expert_id: Also the application's name.
        dashboard: URL of the cluster's dashboard, which has Serve's REST API.
        base_url: Where the application answers, `/v1` included; what is before that in its path is
            the application's route prefix.
        import_path: What builds the application, `module:name`, importable on the cluster.
        args: What the builder is called with.
        env: Environment variables of the application.
        options: Further fields of the application as Ray has them: `runtime_env`, `deployments`.
        model: Its name on the wire.
        listen: Where Serve is to listen if it does not run yet, as Ray has it; empty if it has to.
        token: What the dashboard wants as a bearer token.
        api_key: What the application wants, or a proxy before it.
        lazy: It is only deployed when somebody wakes it.
        ready_s: How long it may take from its declaration to the first token.
        optional: Everything else starts without it.
    """

    expert_id: str
    dashboard: str
    base_url: str
    import_path: str
    args: Mapping[str, Any]
    options: Mapping[str, Any]
    model: str
    listen: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    lazy: bool = False
    ready_s: float = 1800.0
    optional: bool = False

    @property
    def serves(self) -> tuple[str, ...]:
        """Its expert."""
        return (self.expert_id,)

    @property
    def adapters(self) -> Mapping[str, str]:
        """None: a builder's `args` say what else is served."""
        return {}

    @property
    def application(self) -> dict[str, Any]:
        """What is declared."""
        runtime_env = self.options.get("runtime_env", {})
        env = {**runtime_env.get("env_vars", {}), **self.env, MARK: self.expert_id}
        return {
            **self.options,
            "name": self.expert_id,
            "route_prefix": urlsplit(self.base_url).path.removesuffix("/v1") or "/",
            "import_path": self.import_path,
            "args": dict(self.args),
            "runtime_env": {**runtime_env, "env_vars": env},
        }

    def engine(self, log_dir: Path) -> RayEngine:
        """The engine that serves it; nothing is deployed yet. Its log is Ray's."""
        return RayEngine(self)


class RayEngine:
    """A Serve application: started is declared, stopped is deleted, and Ray mends what falls."""

    levels: frozenset[int] = frozenset()
    pid: int | None = None
    mends = True

    def __init__(self, spec: RaySpec) -> None:
        self.spec = spec
        self.base_url = spec.base_url
        self.api_key = spec.api_key
        self.faults: Mapping[str, str] = {}
        self._serve = RayServeApi(spec.dashboard, spec.token)
        root = spec.base_url.removesuffix("/v1")
        self._model = VllmApi(spec.expert_id, root, spec.api_key)
        # Two, since Serve may hold a call that we no longer wait for.
        self._asking = ThreadPoolExecutor(2, f"ask-{spec.expert_id}")
        self._stopped = threading.Event()
        self._declared = False

    def start(self) -> None:
        """Declare the application; one that a gateway declared before is taken over.

        Raises:
            EngineStartError: The cluster refused, or somebody else's application has its name.
        """
        self._stopped.clear()
        there = self._look()
        if there and not there.deleting and not self._is_ours(there):
            raise self._failure(
                "is somebody else's application: delete that, or give the expert another id"
            )
        self._declared = True
        if there is None or there.failed or there.declared != self.spec.application:
            self._serve.declare(self.spec.application, self.spec.listen)

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model has written a token.

        Raises:
            EngineStartError: Ray gave up, or it did not answer in time.
        """
        writes = partial(self._writes_a_token, starting=True)
        await_token(writes, self._wait_failed, self._not_in_time, timeout_s)

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        """Block until it serves no more; what became of it.

        A cluster that does not answer says nothing of its applications.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stopped.is_set():
            if end := self._end():
                return end
            left_s = _POLL_S if until is None else until - time.monotonic()
            if left_s <= 0:
                return None
            self._stopped.wait(min(_POLL_S, left_s))
        return "was deleted"

    def answers(self, timeout_s: float) -> bool:
        """Whether it still writes tokens."""
        return self._writes_a_token(timeout_s)

    def load(self) -> EngineLoad | None:
        """Nothing: replicas have figures, which Ray shows its own monitoring."""
        return None

    def sleep(self, level: int) -> None:
        """It can't: Ray's replicas have no sleep that they could be told of.

        Raises:
            EngineMoveError: Always.
        """
        raise EngineMoveError(
            f"engine {self.spec.expert_id!r}: an application on Ray has no sleep of level {level}; "
            "at level 3 it is deleted, and deployed again when it wakes"
        )

    def wake(self) -> None:
        """Nothing to do: it never sleeps."""

    def take(self, expert_id: str) -> None:
        """Nothing to do: it serves one expert."""

    def drop(self, expert_id: str) -> None:
        """Nothing to do: it serves one expert."""

    def serve(self, adapters: Mapping[str, str], *, awake: bool) -> None:
        """Nothing to do: it has no adapters."""

    def stop(self) -> None:
        """Delete the application, and wait until Ray has given back what it held.

        Raises:
            EngineMoveError: It may run on; the next stop tries again, the next start takes it over.
        """
        self._stopped.set()
        begun = time.monotonic()
        while self._declared:
            try:
                if self._delete():
                    self._declared = False
                    return
                most_s, why = _GONE_S, "Ray is still deleting it"
            except EngineStartError as error:
                most_s, why = _SILENT_S, str(error)
            if time.monotonic() - begun >= most_s:
                raise EngineMoveError(f"engine {self.spec.expert_id!r} may run on: {why}")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Stop it and give back what it was reached by."""
        with suppress(EngineMoveError):
            self.stop()
        self._asking.shutdown(wait=False)
        self._serve.close()
        self._model.close()

    def _look(self) -> Application | None:
        return self._serve.application(self.spec.expert_id)

    def _is_ours(self, there: Application) -> bool:
        return there.owner == self.spec.expert_id

    def _delete(self) -> bool:
        """Have it deleted; whether it is gone."""
        there = self._look()
        if there is None or not (there.deleting or self._is_ours(there)):
            return True
        if not there.deleting:
            self._serve.remove(self.spec.expert_id)
        return False

    def _end(self, *, starting: bool = False) -> str | None:
        """Why it serves nobody; None if it does, is about to, or the cluster does not say."""
        with suppress(EngineStartError):
            there = self._look()
            if there is None or there.deleting or not self._is_ours(there):
                return "was deleted by somebody else"
            if there.failed or (there.down and not starting):
                return f"is {there.said}"
        return None

    def _writes_a_token(self, timeout_s: float, *, starting: bool = False) -> bool:
        token = self._asking.submit(self._model.writes_a_token, self.spec.model, timeout_s)
        # Serve holds calls until it has mended what fell: who only waits for the token never hears
        # of the fall.
        while not wait([token], _POLL_S).done:
            if self._stopped.is_set() or self._end(starting=starting):
                return False
        return token.result()

    def _wait_failed(self, timeout_s: float) -> str | None:
        """For who waits for the first token: what became of it if it never comes."""
        # Seldom enough for a dashboard: models load for minutes.
        if self._stopped.wait(max(timeout_s, _POLL_S)):
            return "was deleted"
        if end := self._end(starting=True):
            raise self._failure(end)
        return None

    def _not_in_time(self, what: str) -> EngineStartError:
        with suppress(EngineStartError):
            if there := self._look():
                what = f"{what} and is {there.said}"
        return self._failure(what)

    def _failure(self, what: str) -> EngineStartError:
        return EngineStartError(
            f"engine {self.spec.expert_id!r} on Ray at {self.spec.dashboard} {what}"
        )
