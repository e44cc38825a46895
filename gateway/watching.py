"""What a serving process looks for all the time: other routers, other keys, other settings."""

from __future__ import annotations

import signal
import threading

import anyio

from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from gateway.reload.reloader import Reloader
from gateway.reload.snapshots import Snapshots


async def reload_on_hangup(reloader: Reloader) -> None:
    """Read the configuration again at every SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        return
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            await reloader.reload_or_tell()


async def watch_routers(snapshots: Snapshots) -> None:
    """Take up versions that are promoted or tried, and book that they serve."""
    serving: dict[str, str] = {}
    while True:
        gateway = snapshots.current.gateway
        for name, router in gateway.serving.current.items():
            if serving.get(name) != router.version:
                serving[name] = router.version
                _record_version(gateway.ledger, name, router.version, dict(router.metadata))
        await anyio.sleep(gateway.settings.routing.reload_s)
        gateway = snapshots.current.gateway
        await anyio.to_thread.run_sync(gateway.serving.refresh)
        await anyio.to_thread.run_sync(gateway.decider.prepare)


async def watch_keys(snapshots: Snapshots) -> None:
    """Take up keys that were made, changed or revoked elsewhere."""
    while True:
        await anyio.sleep(snapshots.current.gateway.settings.access.refresh_s)
        await snapshots.current.gateway.key_watch.refresh()


def _record_version(ledger: Ledger, name: str, version: str, manifest: dict[str, object]) -> None:
    values = {
        "event_id": new_id("rtv"),
        "at": now(),
        "router": name,
        "version": version,
        "event": "served",
        "manifest": manifest,
    }
    ledger.append([Row(tables.router_version, values)])
