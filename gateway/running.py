"""Runs the gateway as a server: in the foreground, in workers, or beside a command."""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from gateway.app import build_gateway, create_app
from gateway.errors import ConfigError
from gateway.listeners import check_exposure, exposure, listen
from gateway.local import Endpoints, dump_endpoints, parse_endpoints
from gateway.pool import build_experts
from gateway.settings.load import load_settings
from gateway.settings.root import Settings
from gateway.settings.server import ServerSettings
from gateway.telemetry.logs import Logs
from gateway.telemetry.redaction import Redactor, secrets_of

_CONFIG = "POINTSMAN_CONFIG"
_ENDPOINTS = "POINTSMAN_ENDPOINTS"
_SERVER = "POINTSMAN_SERVER"
_ADMIN_PORT = "POINTSMAN_ADMIN_PORT"


def make_app(
    settings: Settings,
    endpoints: Endpoints,
    *,
    seed: int | None = None,
    admin_port: int | None = None,
) -> FastAPI:
    """The application on top of local engines that already run."""
    gateway = build_gateway(settings, build_experts(settings, endpoints), seed=seed)
    return create_app(gateway, exposure(settings.server, admin_port))


def worker_app() -> FastAPI:
    """What each worker process builds, from what `serve_forever` left in its environment."""
    config = os.environ[_CONFIG]
    endpoints = parse_endpoints(os.environ[_ENDPOINTS])
    server = ServerSettings.model_validate_json(os.environ[_SERVER])
    settings = load_settings(Path(config) if config else None).model_copy(update={"server": server})
    check_exposure(settings)
    logs = logs_of(settings)
    logs.start()
    atexit.register(logs.stop)
    admin_port = os.environ[_ADMIN_PORT]
    return make_app(settings, endpoints, admin_port=int(admin_port) if admin_port else None)


def serve_forever(config: Path | None, settings: Settings, endpoints: Endpoints) -> None:
    """Serve until told to stop; with several workers each is a process of its own.

    Raises:
        ConfigError: An address can't be listened on, or nobody may be served there.
    """
    check_exposure(settings)
    server = settings.server
    sockets = [listen((server.host, server.port), "server.port")]
    admin_port = None
    if server.admin_address is not None:
        sockets.append(listen(server.admin_address, "server.admin_port"))
        admin_port = int(sockets[1].getsockname()[1])
    logs = logs_of(settings)
    logs.start()
    try:
        if server.workers == 1:
            app = make_app(settings, endpoints, admin_port=admin_port)
            uvicorn.Server(uvicorn.Config(app, **_options(server))).run(sockets)
            return
        os.environ[_CONFIG] = str(config or "")
        os.environ[_ENDPOINTS] = dump_endpoints(endpoints)
        os.environ[_SERVER] = server.model_dump_json()
        os.environ[_ADMIN_PORT] = str(admin_port or "")
        whole = uvicorn.Config(
            "gateway.running:worker_app", factory=True, workers=server.workers, **_options(server)
        )
        Multiprocess(whole, sockets).run()
    finally:
        for listener in sockets:
            listener.close()
        logs.stop()


def logs_of(settings: Settings) -> Logs:
    """The log lines that the settings ask for, on standard error."""
    return Logs(settings.logging, Redactor(secrets_of(settings)))


def _options(server: ServerSettings) -> dict[str, Any]:
    return {**_QUIET, "ssl_certfile": server.tls_cert, "ssl_keyfile": server.tls_key}


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
    # What uvicorn says goes where everything goes, see `gateway.telemetry.logs`.
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    # Who asks is read off the connection: without keys, callers on this machine are admins.
    "proxy_headers": False,
    "timeout_graceful_shutdown": 5,
    # A worker that still imports is not a worker that hangs.
    "timeout_worker_healthcheck": 60,
}
