"""A Ray cluster on this machine, started once for all tests that need one."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest

from experts.engines import group_child
from tests.ports import free_port

_ROOT = Path(__file__).parent.parent.parent
_START_S = 240
# Of loopback, but not 127.0.0.1, in whose place Ray would put this machine's address.
_HOST = "127.0.0.2"


@dataclass(frozen=True)
class Cluster:
    """A head with two CPUs that lets in who knows its token.

    Attributes:
        address: Where drivers connect, `HOST:PORT`.
        dashboard: Its dashboard's URL.
        token: What both want to be told.
        env: What lets a driver in; this process's environment says so already.
    """

    address: str
    dashboard: str
    token: str
    env: Mapping[str, str]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Its workers can import this repository, tests included."""
    assert find_spec("ray"), "install the extra `ray`, as `make test-ray` does"
    port, dashboard_port, token = free_port(), free_port(), secrets.token_hex(32)
    env = {
        "PYTHONPATH": str(_ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    one = Cluster(f"{_HOST}:{port}", f"http://127.0.0.1:{dashboard_port}", token, env)
    # Ray's sockets lie in its folder, and a socket's path has at most 107 characters.
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder,
    ):
        for name, value in env.items():
            patch.setenv(name, value)
        log = Path(folder) / "start.log"
        # Left, it closes the head's standard input and waits for its end.
        with _start(port, dashboard_port, folder, log) as head:
            _await(head, one, log)
            yield one


def _start(port: int, dashboard_port: int, folder: str, log: Path) -> subprocess.Popen[bytes]:
    ray = Path(sys.executable).with_name("ray")
    options = {
        "--node-ip-address": _HOST,
        "--port": port,
        "--dashboard-host": "127.0.0.1",
        "--dashboard-port": dashboard_port,
        "--dashboard-agent-listen-port": free_port(),
        "--ray-client-server-port": free_port(),
        "--temp-dir": folder,
        "--num-cpus": 2,
        "--object-store-memory": 80_000_000,
    }
    command = [str(ray), "start", "--head", "--block"]
    command += [str(word) for option in options.items() for word in option]
    # It ends with these tests, however they end, and everything that it started with it.
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, group_child.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await(head: subprocess.Popen[bytes], one: Cluster, log: Path) -> None:
    until = time.monotonic() + _START_S
    authorized = {"authorization": f"Bearer {one.token}"}
    with httpx2.Client(base_url=one.dashboard, headers=authorized, trust_env=False) as client:
        while head.poll() is None and time.monotonic() < until:
            try:
                if client.get("/api/serve/applications/").is_success:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))
