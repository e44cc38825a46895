"""Every route there is, and what is said where there is none."""

from __future__ import annotations

from difflib import get_close_matches

from starlette.applications import Starlette
from starlette.requests import Request

from gateway.api import (
    admin,
    budgets,
    catalog,
    chat,
    completions,
    config,
    embeddings,
    feedback,
    figures,
    health,
    keys,
    messages,
    reference,
    responses,
    roster,
)
from gateway.api.routing import Routes
from gateway.dashboard import pages
from gateway.errors import ApiError
from gateway.server.listeners import check_operator, is_public
from gateway.state import gateway_of

PUBLIC = tuple(
    module.api
    for module in (chat, messages, responses, completions, embeddings, catalog, feedback, health)
)
OPERATOR = tuple(
    module.api for module in (admin, budgets, config, figures, keys, pages, reference, roster)
)
"""Routes for the operator alone: not on a public listener, and not for pages of other sites."""

_LONGEST_PATH = 100


def add_routes(app: Starlette) -> None:
    """Every route there is."""
    for router in PUBLIC:
        app.routes.extend(router.routes)
    for router in OPERATOR:
        app.routes.extend(route.behind(_operator_only) for route in router.routes)


def paths() -> list[str]:
    """Every path there is, e.g. `/v1/models/{name}`."""
    return _paths(*PUBLIC, *OPERATOR)


def _paths(*routers: Routes) -> list[str]:
    # Which kind of part a name stands for is between the framework and us.
    found = {route.path.replace(":path", "") for router in routers for route in router.routes}
    return sorted(found)


def no_route(request: Request) -> ApiError:
    """What is said of a path that is none, or of a method that its path does not take.

    Where operators' routes are not served, they are no routes.
    """
    public = is_public(request, request.app.state.admin_port)
    routers = PUBLIC if public else (*PUBLIC, *OPERATOR)
    routes = [each for router in routers for each in router.routes]
    path: str = request.scope["path"]
    asked = f"{request.method} {path[:_LONGEST_PATH]}"
    if taken := {each.method for each in routes if each.path_regex.match(path)}:
        methods = ", ".join(sorted(taken))
        message = f"there is no {asked}; this path takes {methods}"
        allow = {"allow": methods}
        return ApiError(405, message, code="method_not_allowed", headers=allow)
    known = _paths(*routers)
    near = get_close_matches(path[:_LONGEST_PATH], known, n=1, cutoff=0.75)
    meant = f" (was {near[0]} meant?)" if near else ""
    served = ", ".join(name for name in known if name.startswith("/v1/"))
    message = f"there is no {asked}{meant}; served are {served}"
    return ApiError(404, message, code="no_such_route")


def _operator_only(request: Request) -> None:
    check_operator(request, gateway_of(request).settings.server, request.app.state.admin_port)
