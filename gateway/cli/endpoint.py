"""Where a command finds the gateway: one that runs, or one started for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from gateway.cli.console import say
from gateway.cli.plain import announce
from gateway.engines.local import local_engines
from gateway.errors import ConfigError
from gateway.running import background_server, make_app
from gateway.settings.root import Settings

_REMOTE_S = 10.0


def local_url(settings: Settings) -> str:
    """Where `pointsman serve` with these settings listens on this machine."""
    return f"http://127.0.0.1:{settings.server.port}"


def is_up(url: str) -> bool:
    """Whether a gateway answers at `url`."""
    try:
        answer = httpx2.get(f"{url}/health/live", timeout=1.0, trust_env=False)
    except httpx2.TransportError:
        return False
    return answer.status_code == 200


@contextmanager
def running_gateway(settings: Settings, *, seed: int | None = None) -> Iterator[str]:
    """Start local engines and a gateway, yield its URL, stop both."""
    with (
        local_engines(settings, announce) as engines,
        background_server(make_app(settings, engines, seed=seed)) as url,
    ):
        yield url


@contextmanager
def some_gateway(url: str | None, settings: Settings) -> Iterator[str]:
    """The gateway at `url`; or the one that serves these settings; or a new one.

    Raises:
        ConfigError: There is none at `url`.
    """
    if url is not None:
        url = url.rstrip("/").removesuffix("/v1")
        try:
            httpx2.get(f"{url}/health/live", timeout=_REMOTE_S, trust_env=False)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise ConfigError(f"no gateway answers at {url}: {error}") from error
        yield url
    elif is_up(local_url(settings)):
        yield local_url(settings)
    else:
        say("no gateway runs here: starting one for this command")
        with running_gateway(settings) as own:
            yield own
