"""Lists that are given page by page."""

from __future__ import annotations

from starlette.requests import Request

from gateway.api.body import fault


def limit_of(request: Request, otherwise: int, most: int) -> int:
    """How many the client wants of a list; ApiError 400 if that can't be said of one."""
    value = request.query_params.get("limit", str(otherwise))
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= most):
        raise fault("limit", f"must be a whole number from 1 to {most}")
    return int(value)


def place_of(name: str, names: list[str], param: str) -> int:
    """Where the one is that a page begins or ends at; ApiError 400 if it is none of them."""
    if name not in names:
        raise fault(param, f"{name!r} is not in this list")
    return names.index(name)
