"""Every key that opens this gateway, found by the full digest of its secret."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from gateway.access.book import KeyState
from gateway.access.keys import LOCAL, PREFIX, STRANGER, Key, digest
from gateway.errors import ApiError
from gateway.ids import now
from gateway.server.listeners import check_site, site_names
from gateway.settings.access import KeySettings
from gateway.settings.base import secret
from gateway.settings.server import ServerSettings

_SHA256 = "sha256:"
_LOOPBACK = ("127.0.0.1", "::1")
_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip", "via"})
"""What proxies add: who connects from this machine is then somebody else."""
UNVERIFIED = Key("unverified")
"""Who shows a key that can't be checked just now, if `access.when_ledger_is_down` is open."""

KEY_IN_SCOPE = "pointsman.key"
"""Where `gateway.access.gate` leaves the key of a request."""


@dataclass(frozen=True, slots=True)
class _Secret:
    digest: str
    key: Key
    until: float | None


class Keyring:
    """Keys of the configuration and of the ledger; without any, everybody may call.

    Who calls without a key is an admin on this machine and nobody's admin from elsewhere. Finding a
    key takes some microseconds and no lock. The state is replaced as a whole by `take_over`.

    Args:
        settings: The keys of the configuration.
        when_ledger_is_down: Whether keys that are not known here pass while `ledger_down`.
        server: Whether strangers may come without a key, and the names that we have in browsers.
    """

    def __init__(
        self,
        settings: Iterable[KeySettings] = (),
        when_ledger_is_down: Literal["open", "closed"] = "closed",
        server: ServerSettings | None = None,
    ) -> None:
        server = server or ServerSettings(allow_anonymous=True)
        self._strangers = server.allow_anonymous
        self._sites = site_names(server)
        self._configured = {s.name: (s.bare(), _digest_of(s)) for s in settings}
        self._open = when_ledger_is_down == "open"
        self.ledger_down = False
        self._by_digest: dict[str, _Secret] = {}
        self._keys: dict[str, Key] = {}
        self._states: dict[str, KeyState] = {}
        self._children: dict[str, list[str]] = {}
        self._locked = False
        self.take_over({})

    def __bool__(self) -> bool:
        """Whether a key is wanted: once one was made, revoking it opens nothing."""
        return self._locked

    @property
    def keys(self) -> Mapping[str, Key]:
        """Every key in force, by name; one that has expired may still be among them."""
        return self._keys

    @property
    def configured(self) -> frozenset[str]:
        """Names of the keys that the configuration holds."""
        return frozenset(self._configured)

    def under(self, name: str) -> list[str]:
        """Every key that `name` granted, directly or not, revoked ones included."""
        children = self._children.get(name, ())
        return [each for child in children for each in (child, *self.under(child))]

    def outside(self, project: str) -> list[str]:
        """Every key of another project that counts against this one too: a key there granted it."""
        givers = [name for name, (grant, _) in self._configured.items() if grant.project == project]
        givers += [s.name for s in self._states.values() if s.grant.project == project]
        below = {name for giver in givers for name in self.under(giver)}
        return [name for name in below if self._states[name].grant.project != project]

    def take_over(self, states: Mapping[str, KeyState]) -> None:
        """Take over the ledger's keys; those of the configuration stay and win."""
        keys = self.linked(states)
        secrets = [_Secret(d, keys[name], None) for name, (_, d) in self._configured.items()]
        for name, state in states.items():
            if name in keys and name not in self._configured:
                secrets += [_Secret(d, keys[name], until) for d, until in state.digests.items()]
        self._by_digest = {each.digest: each for each in reversed(secrets)}
        self._keys = keys
        self._states = dict(states)
        children: dict[str, list[str]] = {}
        for state in states.values():
            if state.granted_by is not None:
                children.setdefault(state.granted_by, []).append(state.name)
        self._children = children
        self._locked = bool(self._configured or states)

    def linked(self, states: Mapping[str, KeyState]) -> dict[str, Key]:
        """The keys in force by name, each under the key that granted it.

        A key whose giver is revoked, or in the configuration no longer, is not in force.
        """
        found: dict[str, Key | None] = {
            name: Key(name, grant) for name, (grant, _) in self._configured.items()
        }

        def link(name: str) -> Key | None:
            if name in found:
                return found[name]
            found[name] = None
            state = states.get(name)
            if state is None or state.revoked_at is not None:
                return None
            giver = link(state.granted_by) if state.granted_by else None
            if giver is not None or state.granted_by is None:
                found[name] = Key(name, state.grant, giver)
            return found[name]

        for name in states:
            link(name)
        return {name: key for name, key in found.items() if key is not None}

    def find(self, headers: Mapping[str, str], client_host: str | None, path: str) -> Key:
        """The key that opens `path` to whoever sent these headers.

        Args:
            headers: By lower-case name.
            client_host: From the connection, never from a header.
            path: The path as it is routed, never rebuilt from a URL.

        Raises:
            ApiError: 401 without a valid key, 403 when it may not ask this path, 503 when it can't
                be checked.
        """
        if not self._locked:
            return self._anonymous(headers, client_host)
        scheme, given = _given(headers)
        if not given:
            how = "send one as bearer token in `Authorization`, or in `x-api-key` or `api-key`"
            raise _unauthorized(f"no API key: {how}", "missing_api_key")
        if scheme == "basic" and "origin" in headers:
            # A browser that was once given the password adds it to requests of any site's pages.
            check_site({"origin": headers["origin"]}, self._sites)
        key = self._known(given)
        if not key.may_visit(path):
            raise ApiError(
                403, f"this key may not ask {path}", type="permission_error", code="route_forbidden"
            )
        return key

    @property
    def generation(self) -> object:
        """Another object after every change of keys."""
        return self._by_digest

    def steady(self, headers: Mapping[str, str], client_host: str | None, path: str) -> Key | None:
        """What `find` gives until the next change of keys; None: it refuses, or time may tell."""
        try:
            key = self.find(headers, client_host, path)
        except ApiError:
            return None
        if not self._locked:
            return key
        found = self._by_digest.get(digest(_given(headers)[1]))
        lasts = found is not None and found.until is None and key.expires_at is None
        return key if lasts else None

    def _anonymous(self, headers: Mapping[str, str], client_host: str | None) -> Key:
        """Who needs no key: an admin on this machine, unless a proxy or a page speaks for them."""
        if client_host in _LOOPBACK and _FORWARDED.isdisjoint(headers):
            check_site(headers, self._sites)
            return LOCAL
        if not self._strangers:
            raise _unauthorized(
                "without keys, only this machine is served, and not through a proxy: "
                "add `keys:` to the configuration, or set server.allow_anonymous",
                "missing_api_key",
            )
        return STRANGER

    def _known(self, given: str) -> Key:
        full = digest(given)
        found = self._by_digest.get(full)
        # The table tells by its timing at most where a digest lies, never a secret.
        if found is None or not hmac.compare_digest(found.digest, full):
            return self._unknown(given)
        at = now()
        ends = found.key.expires_at
        if (found.until is not None and at >= found.until) or (ends is not None and at >= ends):
            raise _unauthorized("this API key has expired", "expired_api_key")
        return found.key

    def _unknown(self, given: str) -> Key:
        if not self.ledger_down or not given.startswith(PREFIX):
            raise _unauthorized("this API key is not known here", "invalid_api_key")
        if self._open:
            return UNVERIFIED
        raise ApiError(
            503,
            "the ledger can't be read, so this API key can't be checked; try again shortly",
            type="server_error",
            code="ledger_unavailable",
        )

    def check(self, request: Request) -> Key:
        """The key that `request` came with, or ApiError 401."""
        known: Key | None = request.scope.get(KEY_IN_SCOPE)
        if known is not None:
            return known
        host = request.client.host if request.client else None
        return self.find(request.headers, host, request.scope["path"])

    def check_admin(self, request: Request) -> None:
        """Raises ApiError 401 without a key, 403 unless it is an admin's."""
        if not self.check(request).admin:
            raise ApiError(
                403, "this needs an admin key", type="permission_error", code="not_admin"
            )

    def check_manager(self, request: Request) -> Key:
        """Like `check`, and the key must be one that may make keys, or ApiError 403."""
        key = self.check(request)
        if not key.manages:
            raise ApiError(
                403,
                "this needs the key of a manager or an admin",
                type="permission_error",
                code="not_manager",
            )
        return key


def _given(headers: Mapping[str, str]) -> tuple[str, str]:
    """The scheme, in lower case, and the secret: of several the first in this order counts."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    scheme = scheme.lower()
    if scheme == "bearer":
        return scheme, token.strip()
    if scheme == "basic":
        return scheme, _basic_password(token)
    # Anthropic's header, and Azure's.
    return "", headers.get("x-api-key") or headers.get("api-key", "")


def _basic_password(token: str) -> str:
    # What a browser sends after asking for a password: any user name, the key as password.
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _digest_of(settings: KeySettings) -> str:
    if settings.key.startswith(_SHA256):
        return settings.key.removeprefix(_SHA256).lower()
    return digest(secret(settings.key))


def _unauthorized(message: str, code: str) -> ApiError:
    ask = {"www-authenticate": 'Basic realm="Pointsman", Bearer'}
    return ApiError(401, message, type="authentication_error", code=code, headers=ask)
