"""`pointsman serve --check`: what the configuration says, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from gateway.checking import find_faults, find_router_faults, find_warnings
from gateway.cli.console import err, show_json, show_table
from gateway.errors import ConfigError
from gateway.pool.pool import context_of, prices_of
from gateway.settings.cards import CalledSettings
from gateway.settings.composed import CompositionSettings
from gateway.settings.devices import demands_of, placed_on
from gateway.settings.experts import ExpertSettings, UrlExpert
from gateway.settings.faults import Fault, FaultyConfigError
from gateway.settings.load import Configuration, load_configuration
from gateway.settings.local import AdapterExpert, PackagedExpert, RayExpert, VllmExpert
from gateway.settings.root import Settings

_USABLE, _FAULTY = 0, 2


def check_configuration(path: Path | None, server: Mapping[str, Any], *, as_json: bool) -> int:
    """Print the summary or the faults; returns the exit code, 0 or 2."""
    try:
        configuration = load_configuration(path, server)
        faults: Sequence[Fault | str] = [
            *find_faults(configuration),
            *find_router_faults(configuration.settings),
        ]
    except FaultyConfigError as error:
        return _tell(None, error.faults, as_json)
    except ConfigError as error:
        return _tell(None, [str(error)], as_json)
    return _tell(configuration, faults, as_json)


def _tell(configuration: Configuration | None, faults: Sequence[Fault | str], as_json: bool) -> int:
    usable = configuration if not faults else None
    warnings = find_warnings(configuration) if configuration else []
    if as_json:
        show_json(
            {
                "ok": not faults,
                "faults": [_plain(fault) for fault in faults],
                "warnings": [asdict(warning) for warning in warnings],
                "settings": _summary(usable.settings) if usable else None,
            }
        )
        return _FAULTY if faults else _USABLE
    for fault in faults:
        err.print(f"[bold red]fault[/] {escape(str(fault))}", soft_wrap=True)
    for warning in warnings:
        err.print(f"[yellow]warning[/] {escape(str(warning))}", soft_wrap=True)
    if usable:
        _show(usable.settings)
    return _FAULTY if faults else _USABLE


def _plain(fault: Fault | str) -> dict[str, Any]:
    return asdict(fault) if isinstance(fault, Fault) else {"message": fault}


def _summary(settings: Settings) -> dict[str, Any]:
    server = settings.server
    return {
        "listen": _address((server.host, server.port)),
        "admin": _address(server.admin_address) if server.admin_address else None,
        "workers": server.workers,
        "tls": server.tls_cert is not None,
        "keys": [key.name for key in settings.keys],
        "aliases": dict(settings.aliases),
        "router": settings.routing.router,
        "policy": settings.routing.policy,
        "experts": [_expert(entry) for entry in settings.experts],
        "devices": _devices(settings),
    }


def _devices(settings: Settings) -> list[dict[str, Any]]:
    """Each device with what servers take of it, in GB: those always awake, and those in turns."""
    placed = placed_on(settings.devices, settings.experts, settings.residency)
    takes = {name: demand.each_gb for name, demand in demands_of(settings.experts).items()}
    told = []
    for device in settings.devices:
        names = [name for name, seats in placed.seats.items() if device.device() in seats]
        in_turns = [name for name in names if name in settings.residency.experts]
        told.append(
            {
                "id": device.id,
                "memory_gb": device.memory_gb,
                "always": {name: takes[name] for name in names if name not in in_turns},
                "turns": {name: takes[name] for name in in_turns},
                "turns_share_gb": placed.turns.get(device.device(), 0.0),
            }
        )
    return told


def _expert(entry: ExpertSettings) -> dict[str, Any]:
    remote = entry if isinstance(entry, UrlExpert) else None
    asked = entry if isinstance(entry, UrlExpert | VllmExpert | RayExpert) else None
    called = entry if isinstance(entry, CalledSettings) else None
    at = datetime.now(UTC)
    prices = prices_of(called, at) if called else None
    return {
        "id": entry.id,
        "kind": entry.kind,
        "model": (remote.model or entry.id) if remote else _served(entry),
        "base_urls": _urls(entry),
        "key": bool(asked and asked.api_key),
        "context_tokens": context_of(called, at) if called else None,
        "usd_per_mtok_input": prices and prices.input,
        "usd_per_mtok_output": prices and prices.output,
        "price_source": prices.source if prices else _unlisted(entry),
    }


def _urls(entry: ExpertSettings) -> list[str]:
    """Where it answers, unless an engine of ours is to be started for it."""
    if isinstance(entry, UrlExpert):
        return list(entry.urls)
    there = isinstance(entry, VllmExpert | RayExpert) and entry.base_url
    return [there] if there else []


def _served(entry: ExpertSettings) -> str | None:
    """What an engine of ours serves."""
    if isinstance(entry, PackagedExpert):
        return entry.package
    if isinstance(entry, AdapterExpert):
        return f"{entry.engine} + {entry.path}"
    return entry.model or None if isinstance(entry, VllmExpert | RayExpert) else None


def _unlisted(entry: ExpertSettings) -> str:
    """Where prices come from that the file does not name."""
    if isinstance(entry, CalledSettings):
        return "unknown"
    composed = isinstance(entry, CompositionSettings)
    return "what its children cost" if composed else "measured or free"


def _address(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _show(settings: Settings) -> None:
    about = _summary(settings)
    rows = [
        ["listens on", about["listen"] + (" (TLS)" if about["tls"] else "")],
        ["dashboard and /admin on", about["admin"] or "the same"],
        ["workers", str(about["workers"])],
        ["keys", ", ".join(about["keys"]) or "none: everybody on this machine"],
        ["aliases", ", ".join(f"{a} → {e}" for a, e in about["aliases"].items()) or "none"],
        ["auto", f"router {about['router']}, policy {about['policy']}"],
    ]
    show_table("configuration", {"what": "left", "": "left"}, rows)
    columns = {"expert": "left", "kind": "left", "model": "left", "URL": "left", "key": "left"}
    money = {"$/Mtok in": "right", "$/Mtok out": "right", "prices from": "left"}
    show_table("experts", {**columns, **money}, [_row(expert) for expert in about["experts"]])
    if about["devices"]:
        columns = {"device": "left", "GB": "right", "always awake": "left", "in turns": "left"}
        show_table("devices", columns, [_device_row(device) for device in about["devices"]])


def _device_row(device: Mapping[str, Any]) -> list[str]:
    always, turns = (
        ", ".join(f"{name} {gb:g}" for name, gb in device[which].items())
        for which in ("always", "turns")
    )
    if turns:
        turns = f"{turns} share {device['turns_share_gb']:g}"
    return [device["id"], f"{device['memory_gb']:g}", always, turns]


def _row(expert: Mapping[str, Any]) -> list[str]:
    words = [str(expert[name] or "") for name in ("id", "kind", "model")]
    price = [expert["usd_per_mtok_input"], expert["usd_per_mtok_output"]]
    figures = ["" if figure is None else f"{figure:g}" for figure in price]
    urls = "\n".join(expert["base_urls"])
    return [*words, urls, "yes" if expert["key"] else "", *figures, str(expert["price_source"])]
