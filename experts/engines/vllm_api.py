"""What is said to a vLLM server about itself: is it there, is it busy, sleep, wake, adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx2

from experts.engines.load import EngineLoad, read_load
from experts.errors import EngineMoveError, EngineStartError
from experts.http.connecting import bearer, tls

OLDEST = (0, 22)
"""Older servers let anybody in who sends a crafted Host header (CVE-2026-48746)."""

_QUICK_S = 5.0
_MOVE_S = 300.0
_MAX_ERROR_CHARS = 500


class VllmApi:
    """A vLLM server's own routes; chats go elsewhere.

    Args:
        name: Whose server it is, for messages.
        root: Its URL without `/v1`.
        api_key: What it wants as a bearer token, if anything.
    """

    def __init__(self, name: str, root: str, api_key: str | None) -> None:
        self._name = name
        # A proxy from the environment has no business between us.
        self._client = httpx2.Client(
            base_url=root, headers=bearer(api_key), timeout=_QUICK_S, trust_env=False, verify=tls()
        )

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()

    def check_version(self) -> None:
        """Refuse a server that must not be used.

        Raises:
            EngineStartError: It is older than `OLDEST`, or does not say how old it is.
        """
        said = self._json("GET", "/version").get("version")
        found = re.match(r"(\d+)\.(\d+)", said) if isinstance(said, str) else None
        if not found or (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise EngineStartError(
                f"engine {self._name!r} is vLLM {said}; before {oldest} its key can be evaded: "
                f"install vLLM {oldest} or newer"
            )

    def writes_a_token(self, model: str, timeout_s: float) -> bool:
        """Whether it completes a prompt; one that says it is healthy may still fail at that."""
        body = {"model": model, "prompt": "Hi", "max_tokens": 1}
        try:
            answer = self._client.post("/v1/completions", json=body, timeout=timeout_s)
        except httpx2.TransportError:
            return False
        if answer.status_code in (401, 403):
            raise EngineStartError(
                f"engine {self._name!r} refuses our key ({answer.status_code}): is another server "
                "at its address?"
            )
        return answer.is_success

    def healthy(self, timeout_s: float) -> bool:
        """Whether it says so."""
        try:
            return self._client.get("/health", timeout=timeout_s).is_success
        except httpx2.TransportError:
            return False

    def load(self) -> EngineLoad | None:
        """How busy it is; None if it does not say."""
        try:
            page = self._client.get("/metrics")
        except httpx2.TransportError:
            return None
        return read_load(page.text) if page.is_success else None

    def sleep(self, level: int) -> None:
        """Free the accelerator's memory: 1 keeps the weights in the host's memory, 2 drops them."""
        # Should a request have slipped in after all, it is finished first.
        self._move("/sleep", {"level": level, "mode": "wait"})

    def wake(self, level: int) -> None:
        """The way back from that level; adapters are lost at level 2."""
        if level == 1:
            self._move("/wake_up")
            return
        # Room for the weights first, then the weights from disk, then room for the cache.
        self._move("/wake_up", {"tags": "weights"})
        self._move("/collective_rpc", json={"method": "reload_weights"})
        self._move("/wake_up", {"tags": "kv_cache"})
        self._move("/reset_prefix_cache")

    def load_adapter(self, name: str, path: str) -> None:
        """Take a LoRA adapter; one of that name is replaced.

        Raises:
            EngineMoveError: It can't be read, does not fit the model, or there are too many.
        """
        body = {"lora_name": name, "lora_path": path, "load_inplace": True}
        self._move("/v1/load_lora_adapter", json=body)

    def unload_adapter(self, name: str) -> None:
        """Let go of a LoRA adapter.

        Raises:
            EngineMoveError: There is none of that name.
        """
        self._move("/v1/unload_lora_adapter", json={"lora_name": name})

    def _move(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            answer = self._client.post(path, params=params, json=json, timeout=_MOVE_S)
        except httpx2.TransportError as error:
            raise EngineMoveError(
                f"engine {self._name!r} gave no answer to {path}: {error!r}"
            ) from error
        if not answer.is_success:
            raise EngineMoveError(
                f"engine {self._name!r} answered {path} with {answer.status_code}: "
                f"{_message(answer)}"
            )

    def _json(self, method: str, path: str) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path)
            content = answer.json() if answer.is_success else {}
        except (httpx2.TransportError, ValueError):
            content = {}
        return content if isinstance(content, dict) else {}


def _message(answer: httpx2.Response) -> str:
    """The sentence in an error, wherever its version puts it."""
    try:
        content = answer.json()
        error = content.get("error", content)
        text = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = answer.text
    return str(text or answer.text)[:_MAX_ERROR_CHARS]
