"""JSON as a response."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


def json_answer(content: Any, status: int = 200) -> Response:
    """`content` as a response in JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")
