"""Runs the gateway as a server: in the foreground, in workers, or beside a command."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from threadpoolctl import threadpool_limits
from uvicorn.supervisors import Multiprocess

from gateway.access.sharing import check_sharing
from gateway.app import Origin, create_app
from gateway.engines.local import RunningEngines, plain_endpoints
from gateway.engines.machine_price import Renewal
from gateway.errors import ConfigError
from gateway.fast.protocol import FastProtocol
from gateway.ledger.upkeep import upkeep
from gateway.pool.pool import build_experts
from gateway.reload.board import Board
from gateway.reload.reloader import ConfigSource
from gateway.retrain.beside import trainer_beside
from gateway.server.connection_limits import ConnectionLimits
from gateway.server.files import raise_file_limit
from gateway.server.listeners import Listeners
from gateway.settings.load import Configuration
from gateway.settings.root import Settings
from gateway.settings.server import ServerSettings
from gateway.telemetry.logs import Logs
from gateway.telemetry.redaction import Redactor, secrets_of
from gateway.wiring import build_gateway

_RUN = "POINTSMAN_RUN"
_LAUNCH = "launch.json"
_NEW_OBJECTS = 20_000
"""Between two searches for garbage among them."""


def make_app(settings: Settings, engines: RunningEngines, *, seed: int | None = None) -> Starlette:
    """The application on top of local engines that already run."""
    experts = build_experts(settings, engines.endpoints)
    return create_app(build_gateway(settings, experts, seed=seed, engines=engines))


def serve_forever(
    path: Path | None,
    configuration: Configuration,
    engines: RunningEngines,
    overrides: Mapping[str, Any],
    listeners: Listeners,
) -> None:
    """Serve until told to stop; with several workers each is a process of its own.

    Args:
        path: The configuration's file, to be read again at a reload.
        configuration: What it says.
        engines: Those that run for its local experts.
        overrides: The `server` settings that the command line gave.
        listeners: Where to.

    Raises:
        ConfigError: Something that is configured can't be used.
    """
    check_sharing(configuration.settings)
    raise_file_limit()
    server = configuration.settings.server
    admin_port = int(listeners.admin.getsockname()[1]) if listeners.admin else None
    with ExitStack() as stack:
        stack.enter_context(trainer_beside(path, enabled=configuration.settings.retrain.enabled))
        settings = configuration.settings
        stack.enter_context(upkeep(settings.ledger_url, settings.ledger, Renewal(settings)))
        shared = launched(path, configuration, engines, overrides, admin_port)
        run = stack.enter_context(shared)
        redactor = stack.enter_context(_logging(configuration.settings))
        if server.workers == 1:
            app = settled(serving_app(run, redactor))
            listeners.listen(server)
            uvicorn.Server(uvicorn.Config(app, **_options(server))).run(listeners.sockets)
            return
        os.environ[_RUN] = str(run)
        config = uvicorn.Config(
            "gateway.running:worker_app", factory=True, workers=server.workers, **_options(server)
        )
        listeners.listen(server)
        _Workers(config, listeners.sockets).run()


@contextmanager
def launched(
    path: Path | None,
    configuration: Configuration,
    engines: RunningEngines,
    overrides: Mapping[str, Any],
    admin_port: int | None,
) -> Iterator[Path]:
    """A directory with all that a process needs to serve, for as long as the context is open."""
    with TemporaryDirectory(prefix="pointsman-") as name:
        run = Path(name)
        board = Board(run)
        board.publish(configuration.document.text, "start")
        board.place(plain_endpoints(engines.endpoints))
        launch = {
            "config": str(path) if path else None,
            "server": dict(overrides),
            "admin_port": admin_port,
            "desk": engines.desk,
        }
        (run / _LAUNCH).write_text(json.dumps(launch), encoding="utf-8")
        yield run


def worker_app() -> Starlette:
    """What each worker process builds, from the directory that `serve_forever` names."""
    # Until the application listens for it, the signal that reloads would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = Path(os.environ[_RUN])
    _, configuration, _ = _origin(run)
    logging = _logging(configuration.settings)
    redactor = logging.__enter__()
    atexit.register(logging.__exit__, None, None, None)
    return settled(serving_app(run, redactor))


def settled(app: Starlette) -> Starlette:
    """`app`, in a process that serves nothing else: it is set up for that.

    A decision's products are too small for two threads, which mostly wait for each other. And what
    was built to stay need not be looked through for garbage ever again.
    """
    threadpool_limits(limits=1)
    gc.collect()
    gc.freeze()
    return app


def serving_app(run: Path, redactor: Redactor | None = None) -> Starlette:
    """The application of one process of a `pointsman serve`.

    Args:
        run: The directory that its processes share, see `launched`.
        redactor: Takes secrets out of log lines, those of later configurations too.
    """
    origin, launch = _origin(run), _launch(run)
    settings = origin.configuration.settings
    engines = RunningEngines(origin.source.endpoints(settings), launch["desk"])
    experts = build_experts(settings, engines.endpoints)
    gateway = build_gateway(settings, experts, redactor=redactor, engines=engines)
    if settings.server.workers > 1:
        gateway.telemetry.metrics.share(run / "figures")
    app = create_app(gateway, admin_port=launch["admin_port"], origin=origin)
    rarely_collected()
    return app


def rarely_collected() -> None:
    """From now on garbage is searched for rarely, and not among what is there already."""
    # All of this stays: no later search for garbage, which nobody is served during, looks at it.
    gc.freeze()
    # A request makes hundreds of objects, none of which needs to be searched for.
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def _launch(run: Path) -> dict[str, Any]:
    launch: dict[str, Any] = json.loads((run / _LAUNCH).read_text(encoding="utf-8"))
    return launch


def _origin(run: Path) -> Origin:
    launch, board = _launch(run), Board(run)
    path = Path(launch["config"]) if launch["config"] else None
    source = ConfigSource(path, board, launch["server"])
    entry = board.current()
    return Origin(source, source.read(board.text(entry.number)), entry)


@contextmanager
def _logging(settings: Settings) -> Iterator[Redactor]:
    """Write the log lines that the settings ask for; yields what takes secrets out of them."""
    redactor = Redactor(secrets_of(settings))
    logs = Logs(settings.logging, redactor)
    logs.start()
    try:
        yield redactor
    finally:
        logs.stop()


class _Workers(Multiprocess):
    """Reloads at a hangup instead of starting every worker anew, and takes nobody new at a stop."""

    def terminate_all(self) -> None:
        # While this process holds them, clients go on being connected, to be answered by nobody.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)


def _options(server: ServerSettings) -> dict[str, Any]:
    return {**_plain(server), "ssl_certfile": server.tls_cert, "ssl_keyfile": server.tls_key}


def _plain(server: ServerSettings) -> dict[str, Any]:
    return {
        **_QUIET,
        "http": partial(FastProtocol, limits=ConnectionLimits.of(server)),
        # By then whoever is still served has been told that it ends.
        "timeout_graceful_shutdown": server.grace_s + 2,
    }


@contextmanager
def background_server(app: Starlette) -> Iterator[str]:
    """Serve `app`, a gateway or not, from a thread on a free loopback port; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        started = threading.Event()
        gateway = getattr(app.state, "gateway", None)
        options = _plain(gateway.settings.server if gateway else ServerSettings())
        server = _Announcing(uvicorn.Config(app, **options), started)
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
    "ws": "none",
    # A worker that still imports is not a worker that hangs.
    "timeout_worker_healthcheck": 60,
}
