"""Who may call: keys from the settings, compared by digest in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from gateway.errors import ApiError
from gateway.settings.access import KeySettings
from gateway.settings.base import secret

_SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is known here: never the key itself."""

    name: str
    digest: str
    admin: bool


class Keyring:
    """The keys that open this gateway; without any, everybody may call, if we listen to them.

    Who calls without a key is an admin on this machine and nobody's admin from elsewhere.
    """

    def __init__(self, settings: Iterable[KeySettings]) -> None:
        self._keys = tuple(Key(s.name, _digest_of(s), s.admin) for s in settings)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, request: Request) -> Key:
        """The key that `request` carries, or ApiError 401."""
        if not self._keys:
            return Key("anonymous", "", admin=_is_local(request))
        given = _given(request)
        if not given:
            raise _unauthorized("no API key: send `Authorization: Bearer <key>`", "missing_api_key")
        digest = hashlib.sha256(given.encode()).hexdigest()
        # Every key is compared, so that the time taken says nothing of which one is near.
        matching = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not matching:
            raise _unauthorized("this API key is not known here", "invalid_api_key")
        return matching[0]

    def check_admin(self, request: Request) -> Key:
        """Like `check`, and the key must be an admin's, or ApiError 403."""
        key = self.check(request)
        if not key.admin:
            raise ApiError(
                403, "this needs an admin key", type="permission_error", code="not_admin"
            )
        return key


def _is_local(request: Request) -> bool:
    # From the connection, never from a header.
    return request.client is not None and request.client.host in ("127.0.0.1", "::1")


def _given(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scheme.lower() == "basic":
        return _basic_password(token)
    return request.headers.get("x-api-key", "")


def _basic_password(token: str) -> str:
    # What a browser sends after asking for a password: any user name, the key as password.
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _digest_of(settings: KeySettings) -> str:
    if settings.key.startswith(_SHA256):
        return settings.key.removeprefix(_SHA256).lower()
    return hashlib.sha256(secret(settings.key).encode()).hexdigest()


def _unauthorized(message: str, code: str) -> ApiError:
    ask = {"www-authenticate": 'Basic realm="Pointsman", Bearer'}
    return ApiError(401, message, type="authentication_error", code=code, headers=ask)
