"""`pointsman keys`: keys of the ledger, on the ledger itself or through a running gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

import httpx2
import orjson
import typer
from pydantic import ValidationError

from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.api.keys import NewKey, minted_json, state_json
from gateway.cli.chat import ApiKey
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.ledger import Url as LedgerUrl
from gateway.cli.routers import AsJson
from gateway.cli.serve import Config
from gateway.errors import ConfigError, GatewayError
from gateway.ledger.database import opened
from gateway.settings.load import load_settings

commands = typer.Typer(help="Make, list, rotate and revoke keys.", no_args_is_help=True)
Json = dict[str, Any]
Name = Annotated[str, typer.Argument(help="The key's name.")]
Url = Annotated[
    str | None,
    typer.Option(help="A running gateway to ask, with --key; default: write to its ledger."),
]
Many = list[str] | None
_SPAN_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


class KeysError(GatewayError):
    """The gateway refused; the message is its own."""


class Office(Protocol):
    """Where keys are looked after."""

    def create(self, body: Json) -> Json: ...

    def rotate(self, name: str, grace_s: float) -> Json: ...

    def revoke(self, name: str) -> Json: ...

    def list(self) -> list[Json]: ...


@commands.command()
def create(
    name: Annotated[str, typer.Option(help="How requests, tables and you will call it.")],
    project: Annotated[str | None, typer.Option(help="Whose limits it shares.")] = None,
    role: Annotated[
        str, typer.Option(help="caller; manager, who may make keys; or admin.")
    ] = "caller",
    route: Annotated[Many, typer.Option(help="Path it may ask, * for anything; repeat.")] = None,
    expert: Annotated[Many, typer.Option(help="Expert it may ask, * for anything; repeat.")] = None,
    policy: Annotated[Many, typer.Option(help="Policy it may use; repeat.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests per minute.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens per minute.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Dollars per --per.")] = None,
    per: Annotated[str, typer.Option(help="Of the budget: day, week, month or total.")] = "month",
    expires: Annotated[str | None, typer.Option(help="After 12h, 30d, ...")] = None,
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Make a key and show its secret, this once."""
    limits: list[Json] = [
        {"requests": rpm, "per": "minute"},
        {"tokens": tpm, "per": "minute"},
        {"usd": budget_usd, "per": per},
    ]
    said: Json = {
        "name": name,
        "role": role,
        "project": project,
        "routes": route,
        "experts": expert,
        "policies": policy,
        "limits": [limit for limit in limits if None not in limit.values()],
        "expires_in_s": None if expires is None else seconds(expires),
    }
    with _office(url, key, ledger, config) as office:
        _show_secret(office.create({k: v for k, v in said.items() if v not in (None, [])}), json)


@commands.command("list")
def list_(
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Every key, its rights and its end; never its secret."""
    with _office(url, key, ledger, config) as office:
        keys = office.list()
    if json:
        show_json(keys)
        return
    columns = ("key", "project", "role", "experts", "limits", "ends", "made by")
    show_table("keys", dict.fromkeys(columns, "left"), [_row(each) for each in keys])


@commands.command()
def rotate(
    name: Name,
    grace: Annotated[str, typer.Option(help="How long the old secret goes on: 0s, 1d, ...")] = "1d",
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Give a key a new secret, shown this once."""
    with _office(url, key, ledger, config) as office:
        _show_secret(office.rotate(name, seconds(grace)), json)


@commands.command()
def revoke(
    name: Name,
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
) -> None:
    """Close a key, and every key that it made, for good; gateways notice within a second or so."""
    with _office(url, key, ledger, config) as office:
        office.revoke(name)
    out.print(f"{name} is revoked")


def seconds(span: str) -> float:
    """`90s`, `15min`, `12h`, `30d` or `2w` in seconds."""
    parts = re.fullmatch(r"(\d+)(s|min|h|d|w)", span.strip())
    if parts is None:
        raise ConfigError(f"{span!r} is no length of time; write 90s, 15min, 12h, 30d or 2w")
    return float(parts[1]) * _SPAN_S[parts[2]]


@contextmanager
def _office(url: str | None, key: str | None, ledger: str | None, config: Any) -> Iterator[Office]:
    if url is not None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        base = url.rstrip("/")
        with httpx2.Client(base_url=base, headers=headers, timeout=30, trust_env=False) as client:
            yield _Remote(client)
        return
    settings = load_settings(config)
    with opened(ledger or settings.ledger_url) as engine:
        yield _Here(Minter(KeyBook(engine), Keyring(settings.keys)))


class _Here:
    """The operator, at the ledger itself."""

    def __init__(self, minter: Minter) -> None:
        self._minter = minter

    def create(self, body: Json) -> Json:
        try:
            wanted = NewKey.model_validate(body)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise KeysError(f"{where}: {fault['msg']}") from error
        return minted_json(self._minter.create(None, wanted.name, wanted.wanted()))

    def rotate(self, name: str, grace_s: float) -> Json:
        return minted_json(self._minter.rotate(None, name, grace_s))

    def revoke(self, name: str) -> Json:
        return state_json(self._minter.revoke(None, name))

    def list(self) -> list[Json]:
        return [state_json(state) for state in self._minter.seen_by(None)]


class _Remote:
    """A gateway that runs, with the rights of the key that is shown to it."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def create(self, body: Json) -> Json:
        return self._ask("POST", "/admin/keys", body)

    def rotate(self, name: str, grace_s: float) -> Json:
        return self._ask("POST", f"/admin/keys/{name}/rotate", {"grace_s": grace_s})

    def revoke(self, name: str) -> Json:
        return self._ask("POST", f"/admin/keys/{name}/revoke")

    def list(self) -> list[Json]:
        return list(self._ask("GET", "/admin/keys")["keys"])

    def _ask(self, method: Literal["GET", "POST"], path: str, body: Json | None = None) -> Json:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise KeysError(f"no answer from {self._client.base_url}: {error}") from error
        try:
            content: Json = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise KeysError(f"{self._client.base_url} is no Pointsman gateway") from error
        if answer.is_error:
            raise KeysError(str(content.get("error", {}).get("message", answer.status_code)))
        return content


def _show_secret(made: Json, json: bool) -> None:
    if json:
        show_json(made)
        return
    say(f"the secret of {made['name']} is shown this once; keep it safe:")
    out.print(made["key"], soft_wrap=True, markup=False)


def _row(key: Json) -> list[str]:
    limits = "; ".join(_limit(limit) for limit in key["limits"])
    return [
        key["name"],
        key["project"],
        key["role"],
        " ".join(key["experts"]),
        limits or "none",
        _ends(key),
        key.get("granted_by") or key["source"],
    ]


def _limit(limit: Json) -> str:
    unit = next(name for name in ("requests", "tokens", "usd") if name in limit)
    amount = f"${limit[unit]:g}" if unit == "usd" else f"{limit[unit]} {unit}"
    return f"{amount} in total" if limit["per"] == "total" else f"{amount} per {limit['per']}"


def _ends(key: Json) -> str:
    if key.get("revoked_at"):
        return f"revoked {_day(key['revoked_at'])}"
    return _day(key["expires_at"]) if key.get("expires_at") else "never"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
