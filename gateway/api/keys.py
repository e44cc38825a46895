"""`/admin/keys`: keys made, listed, rotated and revoked while the gateway runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import anyio
from pydantic import Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.book import KeyState
from gateway.access.matchless import matchless
from gateway.access.minting import DAY_S, Minted
from gateway.api.body import parse_body
from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.errors import ApiError
from gateway.ids import now
from gateway.settings.access import Grant
from gateway.settings.base import Frozen
from gateway.settings.explain import problem_of
from gateway.settings.faults import shown
from gateway.settings.root import Settings
from gateway.state import Gateway, gateway_of, read_body

api = Routes("/admin")
_MOST_WARNINGS = 20
_CENTURY_S = 36_525 * DAY_S
T = TypeVar("T")
F = TypeVar("F", bound=Frozen)


class Wanted(Grant):
    """The rights that a body asks for."""

    expires_in_s: float | None = Field(None, gt=0, le=_CENTURY_S, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_end(self) -> Wanted:
        if self.expires_in_s is not None and self.expires_at is not None:
            raise ValueError("name one of expires_at and expires_in_s")
        return self

    def grant(self) -> Grant:
        """What the key is to be allowed."""
        if self.expires_in_s is None:
            return self.bare()
        return self.bare().model_copy(update={"expires_at": now() + self.expires_in_s})


class NewKey(Wanted):
    """The body that asks for a key."""

    name: str


class Rotation(Frozen):
    """The body that asks for a second secret."""

    grace_s: float = Field(DAY_S, ge=0, allow_inf_nan=False)


@api.get("/keys")
async def list_keys(request: Request) -> Response:
    """The keys that the caller looks after; an admin sees those of the configuration too."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    states = await anyio.to_thread.run_sync(gateway.minter.seen_by, actor)
    listed = [state_json(state) for state in states]
    if actor.admin:
        listed = [*_configured(gateway), *listed]
    return _json({"keys": listed})


@api.post("/keys")
async def create_key(request: Request) -> Response:
    """A new key; its secret is in this answer and nowhere else, ever."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    body = _parsed(NewKey, await read_body(request))
    grant = body.grant()
    made = await _minted(gateway, lambda: gateway.minter.create(actor, body.name, grant))
    return _json({**made, "warnings": warnings_of(grant, gateway.settings)}, 201)


@api.post("/keys/{name}")
async def change_key(request: Request, name: str) -> Response:
    """Other rights: the fields that the body names; the rest, and the secret, stay."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    grant = _parsed(Wanted, await read_body(request)).grant()
    state = await _changed(gateway, lambda: gateway.minter.change(actor, name, grant))
    return _json({**state_json(state), "warnings": warnings_of(grant, gateway.settings)})


@api.post("/keys/{name}/rotate")
async def rotate_key(request: Request, name: str) -> Response:
    """A second secret; the one before works for `grace_s` more seconds, a day if not said."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    raw = await read_body(request)
    grace_s = _parsed(Rotation, raw or b"{}").grace_s
    return _json(await _minted(gateway, lambda: gateway.minter.rotate(actor, name, grace_s)))


@api.post("/keys/{name}/revoke")
async def revoke_key(request: Request, name: str) -> Response:
    """Close a key, and every key that it granted, for good."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    state = await _changed(gateway, lambda: gateway.minter.revoke(actor, name))
    return _json(state_json(state))


def state_json(state: KeyState) -> dict[str, Any]:
    """A key for people and programs: everything but its digests."""
    return {
        "name": state.name,
        "source": "ledger",
        **_grant_json(state.grant),
        "granted_by": state.granted_by,
        "created_at": state.created_at,
        "revoked_at": state.revoked_at,
        "secrets": sum(until is None or until > now() for until in state.digests.values()),
    }


def warnings_of(grant: Grant, settings: Settings) -> list[str]:
    """What may not have been meant as it was said; experts may come later."""
    return [str(found) for found in islice(matchless(grant, settings), _MOST_WARNINGS)]


def minted_json(minted: Minted) -> dict[str, Any]:
    """The same with the secret, once."""
    return {"key": minted.secret, **state_json(minted.state)}


def _configured(gateway: Gateway) -> list[dict[str, Any]]:
    keyring = gateway.keyring
    return [
        {"name": name, "source": "configuration", **_grant_json(keyring.keys[name].grant)}
        for name in sorted(keyring.configured)
    ]


def _grant_json(grant: Grant) -> dict[str, Any]:
    return grant.model_dump(mode="json", exclude_none=True, include=set(Grant.model_fields))


async def _minted(gateway: Gateway, change: Callable[[], Minted]) -> dict[str, Any]:
    return minted_json(await _changed(gateway, change))


async def _changed(gateway: Gateway, change: Callable[[], T]) -> T:
    def work() -> T:
        changed = change()
        gateway.key_watch.read()
        return changed

    return await anyio.to_thread.run_sync(work)


def _parsed(shape: type[F], raw: bytes) -> F:
    body = parse_body(raw)
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        place, what = problem_of(error, body, shape, "field of a key")
        path = shown(place) or "the body"
        raise ApiError(400, f"{path}: {what}", param=path) from error


def _json(content: Any, status: int = 200) -> Response:
    answer = json_answer(content, status)
    # A secret must not stay in a cache on the way.
    answer.headers["cache-control"] = "no-store"
    return answer
