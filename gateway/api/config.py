"""`/admin/config`: which configuration serves, and how to change it while requests go on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.checking import find_warnings
from gateway.errors import ApiError, ConfigError
from gateway.reload.reloader import Reloader
from gateway.reload.snapshots import Snapshot, Snapshots
from gateway.settings.document import digest_of
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import Configuration, read_text
from gateway.settings.shape import redacted
from gateway.state import gateway_of, read_body

api = Routes("/admin/config")


@api.get("")
async def get_config(request: Request) -> Response:
    """The configuration in force without its secrets, and what every process has loaded."""
    gateway_of(request).keyring.check_admin(request)
    snapshots: Snapshots = request.app.state.snapshots
    reloader: Reloader | None = request.app.state.reloader
    current = snapshots.current
    shared = await anyio.to_thread.run_sync(_shared, reloader) if reloader else {}
    serving = [{"number": s.number, "requests": s.gateway.uses.count} for s in snapshots.live]
    warnings = await _warnings(current.configuration)
    settings = redacted(current.configuration.settings)
    about = {**_about(current), **shared, "serving": serving, "warnings": warnings}
    return json_answer({**about, "settings": settings})


@api.post("/reload")
async def reload(request: Request) -> Response:
    """Serve what the file says now; a file that can't be served changes nothing."""
    gateway_of(request).keyring.check_admin(request)
    reloader = _reloader(request)
    before = reloader.snapshots.current
    try:
        after = await reloader.reload()
    except FaultyConfigError as error:
        return json_answer(_refusal(error), 400)
    except ConfigError as error:
        raise _conflict(error) from error
    return json_answer({**_about(after), "changed": after is not before})


@api.post("/rollback")
async def rollback(request: Request) -> Response:
    """Serve what served before, without touching the file."""
    gateway_of(request).keyring.check_admin(request)
    try:
        after = await _reloader(request).roll_back()
    except FaultyConfigError as error:
        return json_answer(_refusal(error), 400)
    except ConfigError as error:
        raise _conflict(error) from error
    return json_answer({**_about(after), "changed": True})


@api.post("/validate")
async def validate(request: Request) -> Response:
    """Check the YAML in the body as a reload would, and change nothing."""
    gateway_of(request).keyring.check_admin(request)
    reloader = _reloader(request)
    try:
        text = (await read_body(request)).decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is no UTF-8 text: {error.reason}") from error
    try:
        configuration, later = await anyio.to_thread.run_sync(reloader.validate, text)
    except FaultyConfigError as error:
        return json_answer({"ok": False, "faults": error.json()})
    warnings = await _warnings(configuration)
    answer = {"ok": True, "faults": [], "warnings": warnings, "needs_restart": later}
    return json_answer({**answer, "digest": configuration.document.digest})


async def _warnings(configuration: Configuration) -> list[str]:
    # Looking prices up takes milliseconds.
    found = await anyio.to_thread.run_sync(find_warnings, configuration)
    return [str(warning) for warning in found]


def _about(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "number": snapshot.number,
        "digest": snapshot.configuration.document.digest,
        "loaded_at": snapshot.at,
        "reason": snapshot.reason,
    }


def _shared(reloader: Reloader) -> dict[str, Any]:
    """What lies on disk: the file, earlier configurations, and the notes of all processes."""
    source = reloader.source
    return {
        "file": str(source.path) if source.path else None,
        "file_digest": _digest_in(source.path),
        "history": [asdict(entry) for entry in source.board.history()],
        "processes": [asdict(note) for note in source.board.notes()],
    }


def _digest_in(path: Path | None) -> str | None:
    try:
        return digest_of(read_text(path)) if path else None
    except ConfigError:
        return None


def _reloader(request: Request) -> Reloader:
    reloader: Reloader | None = request.app.state.reloader
    if reloader is None:
        raise _conflict(ConfigError("only a gateway started by `pointsman serve` can be reloaded"))
    return reloader


def _conflict(error: ConfigError) -> ApiError:
    return ApiError(409, str(error), code="config_conflict")


def _refusal(error: FaultyConfigError) -> dict[str, Any]:
    refused = ApiError(400, str(error), code="faulty_config").body()
    return {**refused, "faults": error.json()}
