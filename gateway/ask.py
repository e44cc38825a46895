"""What a client asks: the chat request, whom it names, and its wishes. Checked, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import date
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from experts.cards import Privacy
from experts.messages import ChatRequest
from experts.record import record
from gateway.access.keys import Key
from gateway.errors import ApiError
from gateway.settings.explain import problem_of
from gateway.settings.faults import shown
from gateway.settings.outcomes import CheckFields

HEADER_PREFIX = "x-pointsman-"
_HEADER_ONLY = {"x-pointsman-debug"}

_LISTS = frozenset({"experts", "collections"})
_MAPPINGS = frozenset({"tags", "require_tags", "prefer"})


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic's word
    return value


Number = Annotated[float, BeforeValidator(_no_boolean)]
Soft = Literal["cost", "latency", "size", "recency", "local"]
Weight = Annotated[Number, Field(ge=0, le=1000)]


class Wishes(BaseModel):
    """The `pointsman` object of a body, or `x-pointsman-<name>` headers of the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policy: str | None = Field(None, min_length=1)
    max_cost_usd: Number | None = Field(None, gt=0)
    max_latency_ms: Number | None = Field(None, gt=0)
    min_quality: Number | None = Field(None, ge=0, le=1)
    experts: tuple[str, ...] | None = Field(None, min_length=1)
    only_local: bool = False
    privacy: Privacy = "public"
    critical: bool = False
    max_params_b: Number | None = Field(None, gt=0)
    released_after: date | None = None
    require_tags: dict[str, str] = Field(default_factory=dict, max_length=32)
    tags: dict[str, str] = Field(default_factory=dict, max_length=32)
    session: str | None = Field(None, min_length=1, max_length=200)
    collection: str | None = Field(None, min_length=1, max_length=200)
    collections: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        (), max_length=64
    )
    cache: Literal["use", "refresh", "off"] = "use"
    keep: Literal["none", "hash", "redacted", "full"] | None = None
    prefer: dict[Soft, Weight] = Field(default_factory=dict)
    check: CheckFields | None = None


NO_WISHES = Wishes()


@record()
class Ask:
    """One chat request as the service takes it.

    Attributes:
        request: What the experts get to see.
        model: The `model` field as the client wrote it.
        wire: Which API it came through, e.g. "openai.chat".
        key: Whose key it came with.
        wishes: Its wishes.
        body: The body as it came, for what only its own wire format knows.
        built: Of a request for vectors, who embedded the collections (or session) that it names.
    """

    request: ChatRequest
    model: str
    wire: str
    key: Key
    wishes: Wishes = NO_WISHES
    body: Mapping[str, Any] = field(default_factory=dict)
    built: Mapping[str, str] = field(default_factory=dict)


def parse_wishes(body: Any, headers: Mapping[str, str]) -> Wishes:
    """Wishes of the body's `pointsman` object, completed by headers; the body wins.

    Raises:
        ApiError: 400 naming the field that is wrong.
    """
    if body is not None and not isinstance(body, dict):
        raise ApiError(400, "pointsman: must be an object", param="pointsman")
    if not body and "cache-control" not in headers and HEADER_PREFIX not in " ".join(headers):
        return NO_WISHES
    by_header, body = _from_headers(headers), body or {}
    wished = {**by_header, **body}
    if not wished:
        return NO_WISHES
    try:
        return Wishes.model_validate(wished)
    except ValidationError as error:
        place, what = problem_of(error, wished, Wishes, "wish")
        name = str(place[0])
        header = None if name in body else _header_of(name)
        raise _fault(shown(("pointsman", *place)), what, header) from error


def _header_of(name: str) -> str:
    return HEADER_PREFIX + name.replace("_", "-")


def _fault(path: str, what: str, header: str | None) -> ApiError:
    """A 400 that names the wish, and the header if it came in one."""
    came = f" (in the header `{header}`)" if header else ""
    return ApiError(400, f"{path}: {what}{came}", param=path)


def _from_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    control = headers.get("cache-control")
    wishes = _cache_control(control) if control else {}
    said: set[str] = set()
    for name, value in headers.items():
        if name.startswith(HEADER_PREFIX) and name not in _HEADER_ONLY:
            field_name = name.removeprefix(HEADER_PREFIX).replace("-", "_")
            if field_name in said:
                # Of two the first counts, as everywhere: whoever stands before us may add one.
                continue
            said.add(field_name)
            wishes[field_name] = _header_value(field_name, value)
    return wishes


def _cache_control(header: str) -> dict[str, Any]:
    """What HTTP's own header wishes of our cache."""
    said = {part.strip().lower() for part in header.split(",")}
    if "no-store" in said:
        return {"cache": "off"}
    return {"cache": "refresh"} if "no-cache" in said else {}


def _header_value(name: str, value: str) -> Any:
    """`a,b` for lists, `a=1,b=2` for mappings; either may be JSON, as in a body."""
    if value.startswith(("{", "[")):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise _fault(f"pointsman.{name}", f"is no JSON: {error}", _header_of(name)) from error
    if name in _LISTS:
        return tuple(part.strip() for part in value.split(","))
    if name in _MAPPINGS:
        pairs = [part.partition("=") for part in value.split(",")]
        if not all(key.strip() and equals for key, equals, _ in pairs):
            raise _fault(f"pointsman.{name}", "must be like a=1,b=2", _header_of(name))
        return {key.strip(): item.strip() for key, _, item in pairs}
    return value
