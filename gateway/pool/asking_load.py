"""Hears from the endpoints of experts that have several how busy they are, beside the requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import anyio
import httpx2

from experts.engines.load import EngineLoad, read_load
from experts.http.connecting import bearer, tls
from experts.http.expert import HttpExpert
from experts.http.replicas import Endpoint
from gateway.reload.snapshots import Snapshots
from gateway.settings.base import secret
from gateway.settings.experts import UrlExpert
from gateway.state import Gateway

_ANSWER_S = 1.0
_NOTHING = EngineLoad(0, 0)


async def watch_load(snapshots: Snapshots) -> None:
    """Ask them all at once, every so often, for ever."""
    # A reload may bring who is to be asked.
    while not any(_asked(snapshots.current.gateway)):  # noqa: ASYNC110 - no event tells of it
        await anyio.sleep(snapshots.current.gateway.settings.balance.load_s)
    certificates = await anyio.to_thread.run_sync(tls)
    # A proxy from the environment has no business between us.
    async with httpx2.AsyncClient(
        timeout=_ANSWER_S, trust_env=False, verify=certificates
    ) as client:
        while True:
            gateway = snapshots.current.gateway
            async with anyio.create_task_group() as tasks:
                for endpoint, headers in _asked(gateway):
                    tasks.start_soon(_ask, client, endpoint, headers)
            await anyio.sleep(gateway.settings.balance.load_s)


def _asked(gateway: Gateway) -> Iterator[tuple[Endpoint, Mapping[str, str]]]:
    for entry in gateway.settings.experts:
        expert = gateway.pool.experts.get(entry.id)
        if isinstance(entry, UrlExpert) and entry.tells_load and isinstance(expert, HttpExpert):
            key = entry.api_key and secret(entry.api_key)
            for endpoint in expert.endpoints if len(expert.endpoints) > 1 else ():
                yield endpoint, bearer(key)


async def _ask(client: httpx2.AsyncClient, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
    load = None
    with anyio.move_on_after(_ANSWER_S):
        try:
            page = await client.get(f"{endpoint.url.removesuffix('/v1')}/metrics", headers=headers)
        except (httpx2.HTTPError, OSError, AttributeError):
            # The last is how a socket shows that it was gone at once, see `HttpExpert`.
            pass
        else:
            # One that answers and does not tell has nothing to be disfavoured for.
            load = (read_load(page.text) if page.is_success else None) or _NOTHING
    endpoint.told(load)
