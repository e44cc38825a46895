"""`GET /admin/budgets`: what every key and project has spent, set aside and left."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from experts.cards import NANO_PER_USD
from gateway.access.accounts import Account
from gateway.api.json_answer import json_answer
from gateway.api.routing import Routes
from gateway.state import gateway_of

api = Routes("/admin")


@api.get("/budgets")
async def list_budgets(request: Request) -> Response:
    """The budgets of this period: all of them for an admin, its own keys' for a manager."""
    gateway = gateway_of(request)
    actor = gateway.keyring.check_manager(request)
    keys = [key for key in gateway.keyring.keys.values() if actor.admin or actor in key.lineage]
    accounts = await gateway.admission.budgets(keys, whole=actor.admin)
    body = {"budgets": [_account_json(account) for account in accounts]}
    return json_answer(body)


def _account_json(account: Account) -> dict[str, Any]:
    meter = account.meter
    return {
        "of": meter.kind,
        "name": meter.owner,
        "session": meter.session,
        "per": meter.limit.per,
        "since": account.since,
        "until": account.until,
        "limit_usd": meter.amount / NANO_PER_USD,
        "spent_usd": account.spent / NANO_PER_USD,
        "reserved_usd": account.reserved / NANO_PER_USD,
        "left_usd": max(account.room, 0) / NANO_PER_USD,
    }
