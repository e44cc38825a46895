"""How one expert is asked for several answers that differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experts.messages import ChatRequest


def sampled(request: ChatRequest, index: int, temperature: float | None = None) -> ChatRequest:
    """`request` as it is asked for the `index`-th time.

    Args:
        request: What the client asks. A `seed` of its own is counted up, else all samples would be
            the same.
        index: From 0.
        temperature: Where the client sets none; None leaves it to the expert.
    """
    changed: dict[str, Any] = {}
    if temperature is not None and request.params.get("temperature") is None:
        changed["temperature"] = temperature
    seed = request.params.get("seed")
    if index and isinstance(seed, int):
        changed["seed"] = seed + index
    return replace(request, params={**request.params, **changed}) if changed else request
