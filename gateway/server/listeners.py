"""Opens the sockets we listen on, and keeps the operator's routes off the public one.

Which listener a request came through is read off its socket (`scope["server"]`), never a header.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.errors import ApiError, ConfigError
from gateway.settings.root import Settings
from gateway.settings.server import Address, ServerSettings, is_loopback


def is_public(request: Request, admin_port: int | None) -> bool:
    """Whether a request came through a listener that is not the operator's."""
    local = request.scope.get("server")
    return admin_port is not None and (local is None or local[1] != admin_port)


def check_operator(request: Request, server: ServerSettings, admin_port: int | None) -> None:
    """Refuse the operator's routes to the public, and to pages of other sites.

    Args:
        request: For one of the operator's routes.
        server: Says which names are ours.
        admin_port: The only local port that serves these routes; None: every one.

    Raises:
        HTTPException: 404, on the public listener, as of any path that is none.
        ApiError: 403, for another site.
    """
    if is_public(request, admin_port):
        raise HTTPException(404)
    check_site(request.headers, site_names(server))


def site_names(server: ServerSettings) -> frozenset[str]:
    """Names by which a browser may call us."""
    names = {"localhost", server.host, server.admin_host or "localhost", *server.trusted_hosts}
    return frozenset(name.lower() for name in names)


def check_site(headers: Mapping[str, str], names: frozenset[str]) -> None:
    """Refuse what a browser sends for a page of another site.

    Any address will do as `Host`: a page that was made to resolve to this machine (DNS rebinding)
    still has a name in its requests. Programs need send neither header.

    Raises:
        ApiError: 403.
    """
    host, origin = headers.get("host"), headers.get("origin")
    if host is not None and not _trusts(names, f"//{host}"):
        raise _untrusted("Host", host)
    if origin is not None and not _trusts(names, origin):
        raise _untrusted("Origin", origin)


def check_exposure(settings: Settings) -> None:
    """Raises ConfigError rather than serve strangers without keys."""
    server = settings.server
    if settings.keys or is_loopback(server.host) or server.allow_anonymous:
        return
    raise ConfigError(
        f"refusing to serve {server.host} without keys: add `keys:` to the configuration, "
        "or set server.allow_anonymous"
    )


class Listeners(NamedTuple):
    """Bound sockets that nobody is heard on yet.

    Attributes:
        public: What clients connect to.
        admin: The operator's; None: the same.
    """

    public: socket.socket
    admin: socket.socket | None

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [self.public] if self.admin is None else [self.public, self.admin]

    def listen(self, server: ServerSettings) -> None:
        """Have connections come; who takes them may begin to later, in another process.

        Two programs can bind an address as long as neither listens, and an event loop whose turn
        comes second would say nothing and serve nobody.

        Raises:
            ConfigError: Another program listens on one of the addresses of `server`.
        """
        with taken_is_told((server.host, server.port), "server.port"):
            self.public.listen()
        if self.admin is not None and server.admin_address is not None:
            with taken_is_told(server.admin_address, "server.admin_port"):
                self.admin.listen()


@contextmanager
def listening(settings: Settings) -> Iterator[Listeners]:
    """What `settings` listen on, had before anything is started that takes long.

    Raises:
        ConfigError: An address can't be had, or nobody may be served there.
    """
    check_exposure(settings)
    server = settings.server
    with ExitStack() as stack:
        public = stack.enter_context(listen((server.host, server.port), "server.port"))
        admin = None
        if server.admin_address is not None:
            admin = stack.enter_context(listen(server.admin_address, "server.admin_port"))
        yield Listeners(public, admin)


def listen(address: Address, setting: str) -> socket.socket:
    """A bound socket that worker processes may share.

    Raises:
        ConfigError: The address can't be had; the message names `setting`.
    """
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with ExitStack() as unless_bound, taken_is_told(address, setting):
            listener = unless_bound.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.set_inheritable(True)
            unless_bound.pop_all()
    except OSError as error:
        raise ConfigError(f"{setting}: can't listen on {host}:{port}: {error.strerror}") from error
    return listener


@contextmanager
def taken_is_told(address: Address, setting: str) -> Iterator[None]:
    """Say what to do about an address that another program has.

    Raises:
        ConfigError: It is taken.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        host, port = address
        raise ConfigError(
            f"{setting}: can't listen on {host}:{port}: {error.strerror}; "
            f"stop what listens there, or set another {setting}"
        ) from error


def check_tls(server: ServerSettings) -> None:
    """Raises ConfigError when certificate and key can't be used."""
    if server.tls_cert is None or server.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server.tls_cert, server.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"server.tls_cert: '{server.tls_cert}' can't be used: {error}") from error


@lru_cache(maxsize=1024)
def _trusts(names: frozenset[str], url: str) -> bool:
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host in names or "*" in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _untrusted(header: str, given: str) -> ApiError:
    return ApiError(
        403,
        f"{header} {given[:100]!r} is not trusted here; server.trusted_hosts names those that are",
        type="permission_error",
        code="untrusted_host",
    )
