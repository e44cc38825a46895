"""`pointsman experts start|sleep|wake|stop`: the engines of a gateway that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import httpx2
import typer

from gateway.cli.chat import ApiKey
from gateway.cli.console import out, show_json
from gateway.cli.endpoint import is_up, local_url
from gateway.cli.options import AsJson, Config
from gateway.errors import GatewayError
from gateway.settings.load import load_settings
from gateway.settings.root import Settings

Url = Annotated[str | None, typer.Option(help="The gateway that runs; default: as configured.")]
Expert = Annotated[str, typer.Argument(help="Id of the expert.")]
_MOVES_S = 900.0
"""A large model takes minutes to start."""
_MOVES = {
    "start": "Start the engine of an expert that was stopped.",
    "sleep": "Send an expert to sleep when its calls are over; it wakes when it is asked.",
    "wake": "Wake an expert now; others make room for it.",
    "stop": "End the engine of an expert when its calls are over; only `start` brings it back.",
}


class EngineCommandError(GatewayError):
    """The gateway could not be asked, or refused; the message is its own."""


def register(commands: typer.Typer) -> None:
    """Add the commands."""
    for do, says in _MOVES.items():
        commands.command(do, help=says)(_command(do))


def _command(do: str) -> Callable[..., None]:
    def command(
        expert: Expert,
        url: Url = None,
        key: ApiKey = None,
        config: Config = None,
        json: AsJson = False,
    ) -> None:
        _move(do, expert, _base(url, config), key, json=json)

    return command


def engines_now(url: str | None, settings: Settings, key: str | None) -> dict[str, dict[str, Any]]:
    """Expert to how its engine is, in the gateway that runs; nothing if none does.

    Raises:
        EngineCommandError: It refuses to say.
    """
    base = url or local_url(settings)
    if url is None and not is_up(base):
        return {}
    told = _asked("GET", f"{base.rstrip('/')}/admin/experts", key)
    return {each["id"]: each["engine"] for each in told["experts"] if each.get("engine")}


def standing(engine: Mapping[str, Any] | None) -> dict[str, str]:
    """What a table shows of an engine, if there is one."""
    if engine is None:
        return {}
    load, wake_s = engine["load"] or {}, engine["wake_s"] or engine["start_s"]
    return {
        "state": engine["status"],
        "tier": engine["tier"],
        "under way": str(engine["calls"]),
        "waiting": str(engine["waiting"]),
        "woke in": "" if wake_s is None else f"{wake_s:.1f} s",
        "load": ", ".join(
            f"{name} {value:g}"
            for name, value in load.items()
            if isinstance(value, int | float) and value
        ),
    }


def _base(url: str | None, config: Any) -> str:
    return url or local_url(load_settings(config))


def _move(do: str, expert: str, base: str, key: str | None, *, json: bool) -> None:
    told = _asked("POST", f"{base.rstrip('/')}/admin/experts/{expert}/{do}", key)
    if json:
        show_json(told)
        return
    engine = told["engine"] or {}
    took = standing(engine)["woke in"] if engine and do in ("start", "wake") else ""
    out.print(f"{expert} is {engine.get('status', 'moved')}{f', woke in {took}' if took else ''}")


def _asked(method: str, url: str, key: str | None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.request(method, url, headers=headers, timeout=_MOVES_S, trust_env=False)
    except httpx2.TransportError as error:
        raise EngineCommandError(f"no gateway answers at {url}: {error}") from error
    try:
        said: dict[str, Any] = answer.json()
    except ValueError as error:
        raise EngineCommandError(f"{url} gave no JSON, status {answer.status_code}") from error
    if not answer.is_success:
        raise EngineCommandError(str(said.get("error", {}).get("message", said)))
    return said
