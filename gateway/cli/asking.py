"""How commands ask a gateway that runs: with a key, and every failure as one sentence."""

from __future__ import annotations

from typing import Any

import httpx2

from experts.http.connecting import bearer
from gateway.errors import GatewayError


class EndpointError(GatewayError):
    """The gateway could not be asked, or refused; then the message is its own."""


def client_of(url: str, key: str | None, timeout_s: float) -> httpx2.Client:
    """A client of the gateway at `url`, which may end in `/v1`, that shows `key`."""
    # A proxy from the environment would see prompts and keys that no one sent its way.
    return httpx2.Client(
        base_url=url.rstrip("/").removesuffix("/v1"),
        headers=bearer(key),
        timeout=timeout_s,
        trust_env=False,
    )


def told(client: httpx2.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """What the gateway answers, as JSON.

    Raises:
        EndpointError: Nobody answers, what answers is no gateway, or it refuses.
    """
    try:
        answer = client.request(method, path, json=body)
    except httpx2.TransportError as error:
        raise EndpointError(f"no gateway answers at {client.base_url}: {error}") from error
    if answer.is_error:
        raise EndpointError(refusal(answer))
    try:
        said: dict[str, Any] = answer.json()
    except ValueError as error:
        raise EndpointError(f"what answers at {client.base_url} is no gateway of ours") from error
    return said


def _wants_key(answer: httpx2.Response) -> bool:
    return answer.status_code == 401 and "authorization" not in answer.request.headers


def refusal(answer: httpx2.Response) -> str:
    """Why it refused, in its own words; an answer that is none of ours is shown as it begins."""
    try:
        why = answer.json()["error"]["message"]
        return f"{why}; give it with --key or POINTSMAN_KEY" if _wants_key(answer) else str(why)
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}: {answer.text[:200]}"
