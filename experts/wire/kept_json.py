"""JSON that is to be kept for a while."""

from __future__ import annotations

from typing import Any

import orjson


def kept_json(value: Any) -> bytes:
    """`value` as JSON that takes no more memory than it is long.

    What orjson returns holds the room that the worst text of that length would have needed, ten
    times what it is; only a copy gives that back.
    """
    return bytes(memoryview(orjson.dumps(value)))
