"""`pointsman experts start|sleep|wake|stop`: the engines of a gateway that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.asking import client_of, told
from gateway.cli.console import out, show_json
from gateway.cli.endpoint import is_up, local_url
from gateway.cli.options import ApiKey, AsJson, Config, Url
from gateway.settings.load import load_settings
from gateway.settings.root import Settings

Expert = Annotated[str, typer.Argument(help="Id of the expert.")]
_MOVES_S = 900.0
"""A large model takes minutes to start."""
_MOVES = {
    "start": "Start the engine of an expert that was stopped.",
    "sleep": "Send an expert to sleep when its calls are over; it wakes when it is asked.",
    "wake": "Wake an expert now; others make room for it.",
    "stop": "End the engine of an expert when its calls are over; only `start` brings it back.",
}


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
        EndpointError: It refuses to say.
    """
    base = url or local_url(settings)
    if url is None and not is_up(base):
        return {}
    with client_of(base, key, _MOVES_S) as client:
        experts = told(client, "GET", "/admin/experts")["experts"]
    return {each["id"]: each["engine"] for each in experts if each.get("engine")}


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
    with client_of(base, key, _MOVES_S) as client:
        now = told(client, "POST", f"/admin/experts/{quote(expert)}/{do}")
    if json:
        show_json(now)
        return
    engine = now["engine"] or {}
    took = standing(engine)["woke in"] if engine and do in ("start", "wake") else ""
    out.print(f"{expert} is {engine.get('status', 'moved')}{f', woke in {took}' if took else ''}")
