"""Server-sent events, read tolerantly: what is not a `data:` line is passed over."""

from __future__ import annotations

from collections.abc import AsyncIterator

DONE = "[DONE]"


async def sse_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The payload of each event, lines of one event joined, up to `[DONE]` or the end.

    An event that ends with the stream instead of a blank line still counts: providers forget it.
    """
    parts: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            parts.append(line[5:].removeprefix(" "))
        elif not line.strip() and parts:
            payload, parts = "\n".join(parts), []
            if payload == DONE:
                return
            yield payload
    if parts and (payload := "\n".join(parts)) != DONE:
        yield payload
