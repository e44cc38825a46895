"""One model in a vLLM server: a process of ours with its adapters, or one that runs already."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from experts.engines.load import EngineLoad
from experts.engines.process import ServerProcess
from experts.engines.readiness import await_token
from experts.engines.vllm_api import VllmApi
from experts.errors import EngineMoveError, EngineStartError

_CHILD = Path(__file__).with_name("group_child.py")
_SIDE = Path(__file__).with_name("vllm_side")
_END_S = 15.0
"""More than the child allows the server to end by itself."""


@dataclass(frozen=True, slots=True)
class VllmSpec:
    """What to serve, and how.

    Attributes:
        expert_id: Also the model's name on the wire, in a process of ours.
        model: A folder, or a name that vLLM finds in its cache; the name on the wire of a server
            that runs already, its expert's id if "".
        command: What starts a server; the model and its options are put behind it.
        args: Options of `vllm serve`, as they are.
        env: The whole environment of the server.
        adapters: LoRA adapters, expert id to folder, each an expert of its own.
        max_loras: How many of them may be used in one batch; as many as there are at first if None.
            One of ours without either never takes any.
        sleeps: It may be put to sleep at levels 1 and 2.
        device: What it computes on. A CPU build takes the commands to sleep, and frees nothing.
        lazy: It is only started when somebody wakes it.
        ready_s: How long it may take from start to first token.
        optional: Everything else starts without it.
        base_url: A server that runs already, `/v1` included, instead of a process of ours.
        api_key: What that one wants; ours have a key of their own.
    """

    expert_id: str
    model: str = ""
    command: tuple[str, ...] = ("vllm", "serve")
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    adapters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    max_loras: int | None = None
    sleeps: bool = False
    device: Literal["gpu", "cpu"] = "gpu"
    lazy: bool = False
    ready_s: float = 600.0
    optional: bool = False
    base_url: str = ""
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.model and not self.base_url:
            raise ValueError(
                f"engine {self.expert_id!r}: needs a model to serve or the base_url of a server "
                "that runs"
            )

    @property
    def takes_adapters(self) -> bool:
        """Whether a process of ours is started so that adapters can be loaded."""
        return bool(self.adapters or self.max_loras)

    @property
    def serves(self) -> tuple[str, ...]:
        """Its own expert first, then those of its adapters."""
        return (self.expert_id, *self.adapters)

    def engine(self, log_dir: Path) -> VllmEngine:
        """The engine that serves it; nothing is started yet."""
        if self.base_url:
            return VllmEngine(self, None, self.base_url.removesuffix("/v1"), self.api_key)
        process = ServerProcess(self.expert_id, log_dir, socket.SO_REUSEADDR, _END_S)
        return VllmEngine(
            self, process, f"http://127.0.0.1:{process.port}", secrets.token_urlsafe(32)
        )


class VllmEngine:
    """A vLLM server. One of ours runs behind `group_child`, so that nothing of it outlives us.

    Args:
        spec: What to serve.
        process: Where to run it; None if it runs already.
        root: Its URL, without `/v1`.
        api_key: What it wants to be told on every route.
    """

    mends = False

    def __init__(
        self, spec: VllmSpec, process: ServerProcess | None, root: str, api_key: str | None
    ) -> None:
        self.spec = spec
        self.base_url = f"{root}/v1"
        self.api_key = api_key
        self.levels = frozenset({1, 2}) if spec.sleeps else frozenset[int]()
        self._process = process
        self._api = VllmApi(spec.expert_id, root, api_key)
        self._name = spec.expert_id if process else spec.model or spec.expert_id
        self._faults: dict[str, str] = {}
        self._loaded: set[str] = set()
        self._dropped: set[str] = set()
        self._level = 0
        self._let_go = threading.Event()
        self._tokens = -1

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def faults(self) -> Mapping[str, str]:
        """Adapters that it does not have, and why."""
        return {**self._faults, **dict.fromkeys(self._dropped, "it is stopped")}

    def start(self) -> None:
        """Start the process; it is not ready before `wait_ready` returns.

        Raises:
            EngineStartError: There can be none just now.
        """
        self._let_go.clear()
        self._loaded.clear()
        self._level = 0
        if self._process:
            self._process.start(self._command(self._process.port), self._env())

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model has written a token and the adapters are loaded.

        Raises:
            EngineStartError: It ended, is too old, or did not answer in time.
        """
        writes = partial(self._api.writes_a_token, self._name)
        await_token(writes, self.wait_end, self._start_error, timeout_s)
        self._api.check_version()
        self._load_adapters()

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        """Block until the process ends; what became of it, None if it still runs or never ran.

        A server that is not ours ends when it is let go of.
        """
        if self._process:
            return self._process.wait_end(timeout_s)
        return "was let go of" if self._let_go.wait(timeout_s) else None

    def answers(self, timeout_s: float) -> bool:
        """Whether it still does its work.

        An idle one is asked for a token. A busy one would answer that late: it is only asked
        whether it is healthy, and its count of tokens must have grown since.
        """
        load = self._api.load()
        if load is None or not load.under_way:
            return self._api.writes_a_token(self._name, timeout_s)
        before, self._tokens = self._tokens, load.tokens
        return load.tokens != before and self._api.healthy(timeout_s)

    def load(self) -> EngineLoad | None:
        """How busy it is; None if it did not say."""
        return self._api.load()

    def sleep(self, level: int) -> None:
        """Free the accelerator's memory.

        Raises:
            EngineMoveError: It refused.
        """
        self._api.sleep(level)
        self._level = level

    def wake(self) -> None:
        """The way back; it is not ready before `wait_ready` returns, which loads the adapters.

        Raises:
            EngineMoveError: It refused.
        """
        self._api.wake(self._level)
        if self._level > 1:
            self._loaded.clear()

    def take(self, expert_id: str) -> None:
        """Load an adapter; one that it has is replaced.

        Raises:
            EngineMoveError: It can't be read, does not fit, or there are too many.
        """
        self._api.load_adapter(expert_id, self.spec.adapters[expert_id])
        self._loaded.add(expert_id)
        self._dropped.discard(expert_id)
        self._faults.pop(expert_id, None)

    def drop(self, expert_id: str) -> None:
        """Unload an adapter, until it is taken again.

        Raises:
            EngineMoveError: It refused.
        """
        if expert_id in self._loaded:
            self._unload(expert_id)
        self._dropped.add(expert_id)

    def serve(self, adapters: Mapping[str, str], *, awake: bool) -> None:
        """Answer for these adapters in place of those of its spec, at once or when it wakes.

        Raises:
            EngineMoveError: It can't load one; then nothing has changed.
        """
        before = self.spec
        # A process of ours that starts again takes no more memory for them than it took at first.
        most = before.max_loras or len(before.adapters) or None
        self.spec = replace(before, adapters=adapters, max_loras=most)
        if awake:
            try:
                for name in sorted(adapters.keys() - before.adapters.keys()):
                    self.take(name)
            except EngineMoveError:
                self.spec = before
                raise
            finally:
                self._unload_others()
        self._dropped &= adapters.keys()
        self._faults = {name: why for name, why in self._faults.items() if name in adapters}

    def stop(self) -> None:
        """End the process and all of its own; a server that is not ours is let go of."""
        self._let_go.set()
        if self._process:
            self._process.stop()

    def close(self) -> None:
        """Stop it and give back what it was reached by."""
        self.stop()
        self._api.close()
        if self._process:
            self._process.close()

    def _load_adapters(self) -> None:
        """Load what it has lost or never had; one that fails is missing, and that is all."""
        self._unload_others()
        self._faults = {}
        for name in sorted(self.spec.adapters.keys() - self._loaded - self._dropped):
            try:
                self.take(name)
            except EngineMoveError as error:
                self._faults[name] = f"{self.spec.adapters[name]}: {error}"

    def _unload_others(self) -> None:
        for name in self._loaded - self.spec.adapters.keys():
            # One that it has forgotten is gone as well.
            with suppress(EngineMoveError):
                self._unload(name)

    def _unload(self, expert_id: str) -> None:
        self._loaded.discard(expert_id)
        self._api.unload_adapter(expert_id)

    def _start_error(self, what: str) -> EngineStartError:
        if self._process:
            return self._process.start_error(what)
        return EngineStartError(f"engine {self.spec.expert_id!r} at {self.base_url} {what}")

    def _command(self, port: int) -> list[str]:
        spec = self.spec
        options = ["--host", "127.0.0.1", "--port", str(port)]
        options += ["--served-model-name", spec.expert_id, "--middleware", "pointsman_guard.Guard"]
        # The log must not grow with the traffic.
        options.append("--disable-uvicorn-access-log")
        if spec.sleeps and spec.device == "gpu":
            options.append("--enable-sleep-mode")
        if most := spec.max_loras or len(spec.adapters):
            options += ["--enable-lora", "--max-loras", str(most)]
        # By path and with -P: whatever lies in the working directory can't get in between.
        child = [sys.executable, "-P", str(_CHILD)]
        return [*child, *spec.command, spec.model, *options, *spec.args]

    def _env(self) -> dict[str, str]:
        path = self.spec.env.get("PYTHONPATH")
        ours = {
            "VLLM_API_KEY": self.api_key or "",
            "PYTHONPATH": f"{_SIDE}:{path}" if path else str(_SIDE),
            # Adapters come and go, and it is moved, by routes that only who knows the key reaches.
            "VLLM_SERVER_DEV_MODE": "1" if self.spec.sleeps else "0",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True" if self.spec.takes_adapters else "False",
        }
        return {**self.spec.env, **ours}
