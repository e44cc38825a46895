"""Runs the gateway as a server: in the foreground, in workers, or beside a command."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from gateway.app import build_gateway, create_app
from gateway.errors import ConfigError
from gateway.local import Endpoints, dump_endpoints, parse_endpoints
from gateway.pool import build_experts
from gateway.settings.load import load_settings
from gateway.settings.root import Settings

_CONFIG = "POINTSMAN_CONFIG"
_ENDPOINTS = "POINTSMAN_ENDPOINTS"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def make_app(settings: Settings, endpoints: Endpoints, *, seed: int | None = None) -> FastAPI:
    """The application on top of local engines that already run."""
    return create_app(build_gateway(settings, build_experts(settings, endpoints), seed=seed))


def worker_app() -> FastAPI:
    """What each worker process builds, from what `serve_forever` left in its environment."""
    config = os.environ[_CONFIG]
    endpoints = parse_endpoints(os.environ[_ENDPOINTS])
    return make_app(load_settings(Path(config) if config else None), endpoints)


def check_exposure(settings: Settings, host: str) -> None:
    """Raises ConfigError rather than serve strangers without keys."""
    if host in _LOOPBACK or settings.keys or settings.server.allow_anonymous:
        return
    raise ConfigError(
        f"refusing to serve {host} without keys: add `keys:` to the configuration, "
        "or set server.allow_anonymous"
    )


def serve_forever(
    config: Path | None,
    settings: Settings,
    endpoints: Endpoints,
    host: str,
    port: int,
    workers: int,
) -> None:
    """Serve until told to stop; with several workers each is a process of its own."""
    if workers == 1:
        uvicorn.run(make_app(settings, endpoints), host=host, port=port, **_QUIET)
        return
    os.environ[_CONFIG] = str(config or "")
    os.environ[_ENDPOINTS] = dump_endpoints(endpoints)
    uvicorn.run(
        "gateway.running:worker_app", factory=True, host=host, port=port, workers=workers, **_QUIET
    )


@contextmanager
def background_server(app: FastAPI) -> Iterator[str]:
    """Serve `app` from a thread on a free loopback port; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        started = threading.Event()
        server = _Announcing(uvicorn.Config(app, **_QUIET), started)
        thread = threading.Thread(target=server.run, args=([listener],), name="gateway")
        thread.start()
        try:
            started.wait(timeout=30)
            if not server.started:
                raise ConfigError("the gateway did not start; its log says why")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


class _Announcing(uvicorn.Server):
    """Tells another thread when it listens, or that it never will."""

    def __init__(self, config: uvicorn.Config, settled: threading.Event) -> None:
        super().__init__(config)
        self._settled = settled

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self._settled.set()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self._settled.set()


_QUIET: dict[str, Any] = {
    "log_level": "warning",
    "access_log": False,
    "timeout_graceful_shutdown": 5,
    # A worker that still imports is not a worker that hangs.
    "timeout_worker_healthcheck": 60,
}
