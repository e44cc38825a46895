"""`GET /`: what is being asked, who answers, what it costs, and the trade-off measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.routing import Routes
from gateway.dashboard.chart import frontier_chart
from gateway.dashboard.html import html, page
from gateway.dashboard.money import dollars
from gateway.ids import now
from gateway.state import Gateway, gateway_of

api = Routes()
_DAY_S = 86_400


@api.get("/")
async def dashboard(request: Request) -> Response:
    """The dashboard; a browser asks for the password, which is an admin key."""
    gateway = gateway_of(request)
    gateway.keyring.check_admin(request)
    return html(await anyio.to_thread.run_sync(render, gateway))


def render(gateway: Gateway) -> str:
    """The whole page as HTML."""
    today = gateway.reader.totals(now() - _DAY_S)
    totals, experts = gateway.reader.summary()
    answered = sum(row["requests"] for row in experts) or 1
    return page(
        "dashboard.html",
        totals=totals,
        today=today,
        experts=[{**row, "share": row["requests"] / answered} for row in experts],
        recent=[{**row, "calls": _calls(gateway, row)} for row in gateway.reader.recent()],
        routers=gateway.serving.current,
        refused=gateway.serving.refused,
        in_flight=gateway.telemetry.metrics.in_flight,
        chart=frontier_chart(latest_comparison(gateway)),
        comparison_path=_comparison_path(gateway),
        ago=ago,
        dollars=dollars,
    )


def _calls(gateway: Gateway, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Whom a composition asked, and for how much; nothing where a model answered."""
    expert = gateway.pool.experts.get(row["answered_by"])
    if expert is None or not expert.card.composed:
        return []
    return gateway.reader.calls(row["decision_id"])


def latest_comparison(gateway: Gateway) -> dict[str, Any] | None:
    """The comparison that `demo` or somebody's copy left in the data directory, if one is there."""
    path = _comparison_path(gateway)
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        # Half of a copy.
        return None
    return content


def _comparison_path(gateway: Gateway) -> Path:
    return gateway.settings.data_dir / "comparison.json"


def ago(at: float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, now() - at)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
