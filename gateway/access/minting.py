"""Makes, changes, rotates and revokes the ledger's keys; nobody hands out what they lack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.book import KeyBook, KeyEvent, KeyState
from gateway.access.grants import excess, inherited
from gateway.access.keyring import Keyring
from gateway.access.keys import LOCAL, Key, digest, new_secret
from gateway.errors import ApiError
from gateway.ids import now
from gateway.settings.access import Grant

_NAME = re.compile(r"[A-Za-z0-9][\w.@+-]{0,199}")
_MAX_LINEAGE = 8
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Minted:
    """A key just made or rotated; `secret` is shown this once and kept nowhere."""

    secret: str
    state: KeyState


class Minter:
    """Changes to keys. Every call waits for the database, so none belongs on the event loop.

    Rights are checked against the ledger as it is now, not against what this process last read.
    An actor of None is the operator, who may do everything: whoever can write the ledger can.

    Args:
        book: The ledger's keys.
        keyring: Knows the keys of the configuration.
    """

    def __init__(self, book: KeyBook, keyring: Keyring) -> None:
        self._book = book
        self._keyring = keyring

    def create(self, actor: Key | None, name: str, grant: Grant) -> Minted:
        """A new key within the actor's own rights; limits and expiry not named are the actor's.

        Raises:
            ApiError: 400 for a bad name, 403 for more than the actor has, 409 for a name in use.
        """
        if not _NAME.fullmatch(name):
            raise ApiError(
                400,
                "name: must be 1 to 200 letters, digits or any of . _ @ + -, not a sign first",
                param="name",
            )
        states = self._book.states()
        if name in states or name in self._keyring.configured:
            # A revoked name stays taken: the ledger books requests under it.
            raise ApiError(409, f"name: {name!r} is taken", code="key_exists", param="name")
        giver = self._in_force(actor, states)
        if giver is not None:
            if len(giver.lineage) >= _MAX_LINEAGE:
                raise _forbidden(f"keys are granted over {_MAX_LINEAGE} steps at most", None)
            grant = _within(grant, giver)
        secret = new_secret()
        self._book.add(
            KeyEvent(
                name,
                0,
                now(),
                "created",
                by=giver.name if giver else None,
                digest=digest(secret),
                grant=grant,
            )
        )
        return Minted(secret, self._book.states()[name])

    def change(self, actor: Key | None, name: str, wanted: Grant) -> KeyState:
        """Other rights for a key: what `wanted` names; the rest stays.

        Raises:
            ApiError: 403 for more than the actor has, before or after; 404, or 409 for a key of the
                configuration.
        """
        states, state = self._of(actor, name)
        giver = self._in_force(actor, states)
        named = {field: getattr(wanted, field) for field in wanted.model_fields_set}
        grant = state.grant.model_copy(update=named)
        if giver is not None:
            _require_within(state.grant, giver)
            grant = _within(grant, giver)
        by = giver.name if giver else None
        self._book.add(KeyEvent(name, state.events, now(), "changed", by=by, grant=grant))
        return self._book.states()[name]

    def rotate(self, actor: Key | None, name: str, grace_s: float = DAY_S) -> Minted:
        """A second secret; the one before goes on working for `grace_s` seconds.

        Raises:
            ApiError: 403, 404, or 409 for a key of the configuration.
        """
        states, state = self._of(actor, name)
        giver = self._in_force(actor, states)
        if giver is not None:
            # The new secret is shown to the actor: it must open nothing that the actor may not.
            _require_within(state.grant, giver)
        secret, at = new_secret(), now()
        self._book.add(
            KeyEvent(
                name,
                state.events,
                at,
                "rotated",
                by=giver.name if giver else None,
                digest=digest(secret),
                until=at + grace_s,
            )
        )
        return Minted(secret, self._book.states()[name])

    def revoke(self, actor: Key | None, name: str) -> KeyState:
        """Close a key and all that it granted, for good.

        Raises:
            ApiError: 403, 404, or 409 for a key of the configuration.
        """
        states, state = self._of(actor, name)
        giver = self._in_force(actor, states)
        by = giver.name if giver else None
        self._book.add(KeyEvent(name, state.events, now(), "revoked", by=by))
        return self._book.states()[name]

    def seen_by(self, actor: Key | None) -> list[KeyState]:
        """The ledger's keys that the actor may look after, by name."""
        states = self._book.states()
        giver = self._in_force(actor, states)
        return [state for _, state in sorted(states.items()) if _looks_after(giver, state, states)]

    def _of(self, actor: Key | None, name: str) -> tuple[Mapping[str, KeyState], KeyState]:
        if name in self._keyring.configured:
            raise ApiError(
                409,
                f"the key {name!r} is in the configuration; change it there",
                code="key_in_configuration",
            )
        states = self._book.states()
        state = states.get(name)
        if state is None or not _looks_after(self._in_force(actor, states), state, states):
            # Whether a key exists is told to those who look after it only.
            raise ApiError(404, f"there is no key {name!r}", code="key_not_found")
        if state.revoked_at is not None:
            raise ApiError(409, f"the key {name!r} is revoked", code="key_revoked")
        return states, state

    def _in_force(self, actor: Key | None, states: Mapping[str, KeyState]) -> Key | None:
        """The actor as the ledger has it now; None is the operator."""
        if actor is None:
            return None
        if actor is LOCAL and not states and not self._keyring.configured:
            # Without any key, who calls from this machine is the operator.
            return None
        found = self._keyring.linked(states).get(actor.name)
        if found is None or not found.manages:
            raise ApiError(
                403,
                "this key may not look after keys any more",
                type="permission_error",
                code="not_manager",
            )
        return found


def _looks_after(actor: Key | None, state: KeyState, states: Mapping[str, KeyState]) -> bool:
    if actor is None or actor.admin:
        return True
    name: str | None = state.name
    while name is not None:
        if name == actor.name:
            return True
        above = states.get(name)
        name = above.granted_by if above else None
    return False


def _within(grant: Grant, giver: Key) -> Grant:
    for key in giver.lineage:
        grant = inherited(grant, key.grant)
    _require_within(grant, giver)
    return grant


def _require_within(grant: Grant, giver: Key) -> None:
    for key in giver.lineage:
        field = excess(grant, key.grant)
        if field is not None:
            raise _forbidden(f"{field}: the key {giver.name!r} can't grant more than it has", field)


def _forbidden(message: str, param: str | None) -> ApiError:
    return ApiError(403, message, type="permission_error", code="grant_exceeds_key", param=param)
