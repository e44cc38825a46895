"""The `server` section: where we listen, and what is heard where."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from gateway.settings.base import RESTART, Frozen
from gateway.settings.explain import refusal

_ADMIN_PORT = 8090
_LOOPBACK = "127.0.0.1"

Address = tuple[str, int]


class ServerSettings(Frozen):
    """Where we listen; see `docs/configuration.md` on what is heard where."""

    host: Annotated[str, RESTART] = "127.0.0.1"
    port: Annotated[int, RESTART] = Field(8000, ge=0, le=65535)
    workers: Annotated[int, RESTART] = Field(1, ge=1, le=256)
    """Processes that answer."""
    allow_anonymous: Annotated[bool, RESTART] = False
    """Serve without keys beyond this machine; on the loopback address that is always allowed."""
    admin_host: Annotated[str | None, RESTART] = None
    admin_port: Annotated[int | None, RESTART] = Field(None, ge=0, le=65535)
    """A listener of their own for dashboard, `/admin`, `/metrics` and `/docs`."""
    trusted_hosts: tuple[str, ...] = ()
    """Names by which a browser may call the dashboard and `/admin`, beside this machine's own."""
    tls_cert: Annotated[Path | None, RESTART] = None
    tls_key: Annotated[Path | None, RESTART] = None
    """PEM files; a renewed certificate needs a restart."""
    fast_path: bool = True
    """Serve chat requests to plain-HTTP experts without a task each; off only to compare."""
    watch_config: bool = False
    """Reload when the configuration file changes."""
    head_s: Annotated[float, RESTART] = Field(15, gt=0)
    """Longest wait for the head of a request, and for the first byte of a connection."""
    body_s: Annotated[float, RESTART] = Field(30, gt=0)
    """Longest wait for a body; each 64 KiB that came are worth another second."""
    write_s: Annotated[float, RESTART] = Field(30, gt=0)
    """How long a client may take nothing of an answer that waits for it."""
    keep_alive_s: Annotated[float, RESTART] = Field(75, gt=0)
    """How long a connection stays open between two requests."""
    grace_s: Annotated[float, RESTART] = Field(25, ge=0)
    """How long requests under way may go on when the gateway is told to stop."""
    max_connections: Annotated[int, RESTART] = Field(10_000, ge=16)
    """Open ones of one process; beyond it those that are idle the longest are closed."""
    max_head_bytes: Annotated[int, RESTART] = Field(64 * 1024, ge=1024)
    max_headers: Annotated[int, RESTART] = Field(128, ge=8)

    @property
    def admin_address(self) -> Address | None:
        """Where the operator's routes have a listener of their own; None: beside all others."""
        if self.admin_host is None and self.admin_port is None and is_loopback(self.host):
            return None
        port = _ADMIN_PORT if self.admin_port is None else self.admin_port
        if port == self.port and port != 0:
            return None
        return self.admin_host or _LOOPBACK, port

    @model_validator(mode="after")
    def _fits_together(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            given = "tls_cert" if self.tls_cert else "tls_key"
            raise refusal([((given,), "tls_cert and tls_key come together")])
        same = self.admin_port == self.port != 0 or (
            self.admin_port is None and self.admin_host and self.port == _ADMIN_PORT
        )
        if same and self.admin_host not in (None, self.host):
            problem = "needs a port of its own on another host than `server.host`"
            raise refusal([(("admin_port",), problem)])
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
