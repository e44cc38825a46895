"""What the settings' types say of themselves: known keys, secrets, what a reload can't change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel

from gateway.settings.base import RESTART, SECRET, SECRET_URL, Mark, variable
from gateway.settings.faults import Place

Shape = list[type[BaseModel]]


def known_keys(root: type[BaseModel], place: Place, data: Any) -> list[str]:
    """The keys that may stand at `place`; `data` decides between kinds of one union."""
    shapes: Shape = [root]
    named = False
    for part in place:
        data = _child(data, part)
        if named or isinstance(part, int):
            # A name that the user chose, or a place in a list: no field of ours.
            named = False
        else:
            found = [s.model_fields[part].annotation for s in shapes if part in s.model_fields]
            named = any(get_origin(annotation) is dict for annotation in found)
            shapes = [model for annotation in found for model in _models(annotation)]
        if not named:
            shapes = _of_kind(shapes, data)
    return sorted({name for shape in shapes for name in shape.model_fields})


def models_in(root: type[BaseModel]) -> Shape:
    """`root` and every section below it."""
    found: dict[type[BaseModel], None] = {}
    waiting = [root]
    while waiting:
        model = waiting.pop(0)
        if model not in found:
            # Compositions hold compositions.
            found[model] = None
            for field in model.model_fields.values():
                waiting += _models(field.annotation)
    return list(found)


def _models(annotation: Any) -> Shape:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    named = getattr(annotation, "__value__", annotation)
    return [model for inner in get_args(named) for model in _models(inner)]


def _of_kind(shapes: Shape, data: Any) -> Shape:
    kind = data.get("kind") if isinstance(data, dict) else None
    return [shape for shape in shapes if kind in _kinds(shape)] or shapes


def _kinds(shape: type[BaseModel]) -> tuple[Any, ...]:
    """What `kind` may say for this shape; None where it need not be said."""
    field = shape.model_fields.get("kind")
    if field is None:
        return ()
    return (*get_args(field.annotation), *([] if field.is_required() else [None]))


def _child(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) else None


def secrets_in(settings: BaseModel) -> Iterator[tuple[Place, str]]:
    """Every value that may be `env:NAME`, with its place."""
    for place, value, marks in _values(settings):
        if SECRET in marks or SECRET_URL in marks:
            yield place, str(value)


def restart_values(settings: BaseModel) -> dict[Place, Any]:
    """Every value that is marked `RESTART`."""
    return {place: value for place, value, marks in _values(settings) if RESTART in marks}


def redacted(settings: BaseModel) -> dict[str, Any]:
    """The settings as plain data; of secrets only the variable they come from is shown."""
    hidden = {place: _mask(value) for place, value in secrets_in(settings)}
    plain: dict[str, Any] = _without(settings.model_dump(mode="json"), (), hidden)
    return plain


def _mask(value: str) -> str:
    if variable(value) is not None:
        return value
    url = urlsplit(value)
    if not (url.scheme and "://" in value):
        return "***"
    _, _, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{host}{url.path}"


def _without(data: Any, place: Place, hidden: Mapping[Place, str]) -> Any:
    if place in hidden:
        return hidden[place]
    if isinstance(data, dict):
        return {key: _without(value, (*place, key), hidden) for key, value in data.items()}
    if isinstance(data, list):
        return [_without(value, (*place, index), hidden) for index, value in enumerate(data)]
    return data


def _values(
    value: Any, place: Place = (), marks: tuple[Any, ...] = ()
) -> Iterator[tuple[Place, Any, tuple[Any, ...]]]:
    """Every value below `value`, with the marks of its field and of the fields above it."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            own = tuple(_marks(field.metadata, field.annotation))
            yield from _values(getattr(value, name), (*place, name), (*marks, *own))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, BaseModel):
                # That it is there matters, though it may say nothing.
                yield (*place, key), True, marks
            yield from _values(item, (*place, key), marks)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _values(item, (*place, index), marks)
    elif value is not None:
        yield place, value, marks


def _marks(metadata: list[Any], annotation: Any) -> Iterator[Mark]:
    yield from (item for item in metadata if isinstance(item, Mark))
    annotation = getattr(annotation, "__value__", annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, dict):
        for inner in get_args(annotation):
            yield from _marks(list(getattr(inner, "__metadata__", ())), inner)
