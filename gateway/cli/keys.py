"""`pointsman keys`: keys of the ledger, on the ledger itself or through a running gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote

import httpx2
import typer
from pydantic import ValidationError
from rich.markup import escape

from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.api.keys import NewKey, Wanted, minted_json, state_json, warnings_of
from gateway.cli.asking import client_of, told
from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.options import ApiKey, AsJson, Config, LedgerUrl
from gateway.errors import ConfigError, GatewayError
from gateway.ledger.database import opened
from gateway.settings.explain import problem_of
from gateway.settings.faults import shown
from gateway.settings.load import load_settings
from gateway.settings.root import Settings

commands = typer.Typer(help="Make, list, change, rotate and revoke keys.", no_args_is_help=True)
Json = dict[str, Any]
Name = Annotated[str, typer.Argument(help="The key's name.")]
Url = Annotated[
    str | None,
    typer.Option(help="A running gateway to ask, with --key; default: write to its ledger."),
]
Many = list[str] | None
_ANSWER_S = 30.0
W = TypeVar("W", bound=Wanted)
Project = Annotated[str | None, typer.Option(help="Whose limits it shares.")]
WhichRole = Annotated[
    str | None, typer.Option("--role", help="caller; manager, who may make keys; or admin.")
]
Route = Annotated[Many, typer.Option(help="Path it may ask, * for anything; repeat.")]
Expert = Annotated[Many, typer.Option(help="Expert it may ask, * for anything; repeat.")]
Policy = Annotated[Many, typer.Option(help="Policy it may use; repeat.")]
WhichPrivacy = Annotated[
    str | None,
    typer.Option("--privacy", help="Class of its data at least: public, internal or private."),
]
Rpm = Annotated[int | None, typer.Option(help="Requests per minute.")]
Tpm = Annotated[int | None, typer.Option(help="Tokens per minute.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Dollars per --per.")]
PeriodOf = Annotated[
    str | None,
    typer.Option("--per", help="Of the budget: day, week, month (unless you say) or total."),
]
Expires = Annotated[str | None, typer.Option(help="After 12h, 30d, ...")]
_SPAN_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


class KeysError(GatewayError):
    """The gateway refused; the message is its own."""


class Office(Protocol):
    """Where keys are looked after."""

    def create(self, body: Json) -> Json: ...

    def change(self, name: str, body: Json) -> Json: ...

    def rotate(self, name: str, grace_s: float) -> Json: ...

    def revoke(self, name: str) -> Json: ...

    def list(self) -> list[Json]: ...


@commands.command()
def create(
    name: Annotated[str, typer.Option(help="How requests, tables and you will call it.")],
    project: Project = None,
    role: WhichRole = None,
    route: Route = None,
    expert: Expert = None,
    policy: Policy = None,
    privacy: WhichPrivacy = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    budget_usd: BudgetUsd = None,
    per: PeriodOf = None,
    expires: Expires = None,
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Make a key and show its secret, this once."""
    rights = _rights(project, role, route, expert, policy, privacy, expires)
    limits = _limits(rpm, tpm, budget_usd, per)
    with _office(url, key, ledger, config) as office:
        made = office.create({"name": name, **rights, **limits})
    _show_secret(made, json)
    _warn(made)


@commands.command()
def change(
    name: Name,
    project: Project = None,
    role: WhichRole = None,
    route: Route = None,
    expert: Expert = None,
    policy: Policy = None,
    privacy: WhichPrivacy = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    budget_usd: BudgetUsd = None,
    per: PeriodOf = None,
    expires: Expires = None,
    url: Url = None,
    key: ApiKey = None,
    ledger: LedgerUrl = None,
    config: Config = None,
) -> None:
    """Give a key other rights: what is named here; limits are replaced all together."""
    rights = _rights(project, role, route, expert, policy, privacy, expires)
    wanted = {**rights, **_limits(rpm, tpm, budget_usd, per)}
    if not wanted:
        raise KeysError("name what is to change, e.g. --rpm 120")
    with _office(url, key, ledger, config) as office:
        changed = office.change(name, wanted)
    out.print(f"{name} is changed")
    _warn(changed)


def _rights(
    project: str | None,
    role: str | None,
    route: Many,
    expert: Many,
    policy: Many,
    privacy: str | None,
    expires: str | None,
) -> Json:
    said: Json = {
        "role": role,
        "project": project,
        "routes": route,
        "experts": expert,
        "policies": policy,
        "privacy": privacy,
        "expires_in_s": None if expires is None else seconds(expires),
    }
    return {field: value for field, value in said.items() if value not in (None, [])}


def _limits(rpm: int | None, tpm: int | None, budget_usd: float | None, per: str | None) -> Json:
    if per is not None and budget_usd is None:
        raise KeysError("--per is of a budget: give --budget-usd as well")
    limits: list[Json] = [
        {"requests": rpm, "per": "minute"},
        {"tokens": tpm, "per": "minute"},
        {"usd": budget_usd, "per": per or "month"},
    ]
    said = [limit for limit in limits if None not in limit.values()]
    return {"limits": said} if said else {}


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
        with client_of(url, key, _ANSWER_S) as client:
            yield _Remote(client)
        return
    settings = load_settings(config)
    with opened(ledger or settings.ledger_url) as engine:
        yield _Here(Minter(KeyBook(engine), Keyring(settings.keys)), settings)


class _Here:
    """The operator, at the ledger itself."""

    def __init__(self, minter: Minter, settings: Settings) -> None:
        self._minter = minter
        self._settings = settings

    def create(self, body: Json) -> Json:
        wanted = _parsed(NewKey, body)
        grant = wanted.grant()
        made = minted_json(self._minter.create(None, wanted.name, grant))
        return {**made, "warnings": warnings_of(grant, self._settings)}

    def change(self, name: str, body: Json) -> Json:
        grant = _parsed(Wanted, body).grant()
        changed = state_json(self._minter.change(None, name, grant))
        return {**changed, "warnings": warnings_of(grant, self._settings)}

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
        return told(self._client, "POST", "/admin/keys", body)

    def change(self, name: str, body: Json) -> Json:
        return told(self._client, "POST", _path(name), body)

    def rotate(self, name: str, grace_s: float) -> Json:
        return told(self._client, "POST", f"{_path(name)}/rotate", {"grace_s": grace_s})

    def revoke(self, name: str) -> Json:
        return told(self._client, "POST", f"{_path(name)}/revoke")

    def list(self) -> list[Json]:
        return list(told(self._client, "GET", "/admin/keys")["keys"])


def _path(name: str) -> str:
    return f"/admin/keys/{quote(name, safe='')}"


def _parsed(shape: type[W], body: Json) -> W:
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        place, what = problem_of(error, body, shape, "field of a key")
        raise KeysError(f"{shown(place)}: {what}") from error


def _show_secret(made: Json, json: bool) -> None:
    if json:
        show_json(made)
        return
    say(f"the secret of {made['name']} is shown this once; keep it safe:")
    out.print(made["key"], soft_wrap=True, markup=False)


def _warn(changed: Json) -> None:
    for warning in changed.get("warnings", ()):
        say(f"[yellow]warning[/] {escape(warning)}")


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
