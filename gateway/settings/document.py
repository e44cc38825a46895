"""YAML to plain data that remembers where every key stands, with a bound on all that it may hold.

Read from the parser's events and not with `yaml.safe_load`, which keeps no positions, lets the last
of two equal keys win, and shares what an alias repeats, so that few lines can stand for billions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from gateway.settings.faults import Fault, FaultyConfigError, Place, shown

_MAX_CHARS = 4 * 1024 * 1024
_MAX_VALUES = 200_000
_MAX_DEPTH = 50
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
_KNOWN_TAGS = {*_PLAIN_TAGS, *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))}

Position = tuple[int, int]
_TOP: Position = (1, 1)


@dataclass(frozen=True, slots=True)
class Document:
    """One configuration as it was read.

    Attributes:
        name: What faults call it, usually the file's path.
        text: The whole text.
        data: Keys and values.
        positions: Line and column, from 1, of every key and item.
        origins: For data that was translated from another layout: where a key came from.
    """

    name: str
    text: str
    data: dict[str, Any]
    positions: Mapping[Place, Position]
    origins: Mapping[Place, Place] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """See `digest_of`."""
        return digest_of(self.text)

    def fault(self, place: Place, message: str) -> Fault:
        """A fault at a key of `data`, or at the nearest one above it that is in the text."""
        source = self.source(place)
        known = source
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, _TOP)
        return Fault(line, column, shown(source), message, self.name)

    def source(self, place: Place) -> Place:
        """Where in the text a key of `data` comes from."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]] + place[length:]
        return place

    def translated(self, data: dict[str, Any], origins: Mapping[Place, Place]) -> Document:
        """The same text, understood as other data."""
        return replace(self, data=data, origins=origins)


def digest_of(text: str) -> str:
    """What tells one configuration from another: its SHA-256, as `sha256sum` prints it."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_document(text: str, name: str) -> Document:
    """Parse YAML.

    Raises:
        FaultyConfigError: It is no YAML, not a mapping, too large, or has equal keys or tags.
    """
    reader = _Reader(name)
    if len(text) > _MAX_CHARS:
        raise FaultyConfigError([Fault(1, 1, "", f"is longer than {_MAX_CHARS} characters", name)])
    try:
        top = reader.read(text)
    except _TooMuchError as error:
        raise FaultyConfigError([Fault(*error.position, "", str(error), name)]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else _TOP
        raise FaultyConfigError([Fault(*where, "", _no_yaml(error), name)]) from error
    except yaml.YAMLError as error:
        message = f"is no YAML: {' '.join(str(error).split())}"
        raise FaultyConfigError([Fault(1, 1, "", message, name)]) from error
    if top is not None and top.value is not None and not isinstance(top.value, dict):
        reader.fault(top.position, "must hold keys and values")
    if reader.faults:
        raise FaultyConfigError(reader.faults)
    positions: dict[Place, Position] = {}
    data = _plain(top, (), positions) if top is not None else {}
    return Document(name, text, data or {}, positions)


_UNKNOWN_TAG = "has a tag that is not understood; put text that begins with ! in quotes"


@dataclass(frozen=True, slots=True)
class _Node:
    """A value, where it stands, and how many values it holds, aliases written out."""

    position: Position
    value: Any
    size: int = 1


class _TooMuchError(Exception):
    """What ends the reading at once."""

    def __init__(self, message: str, event: Event) -> None:
        super().__init__(message)
        self.position = _position(event)


class _Reader:
    def __init__(self, name: str) -> None:
        self.faults: list[Fault] = []
        self._name = name
        self._anchors: dict[str, _Node] = {}
        self._scalars = yaml.SafeLoader("")
        self._resolve: Callable[..., str] = self._scalars.resolve

    def fault(self, position: Position, message: str, key: str = "") -> None:
        self.faults.append(Fault(*position, key, message, self._name))

    def read(self, text: str) -> _Node | None:
        events = yaml.parse(text, Loader=_PARSER)
        top: _Node | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if top is not None:
                    self.fault(_position(event), "holds a second document (`---`)")
                    break
                top = self._node(next(events), events, ())
        return top

    def _node(self, event: Event, events: Iterator[Event], place: Place) -> _Node:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if len(place) > _MAX_DEPTH:
            raise _TooMuchError("is nested too deeply", event)
        if isinstance(event, ScalarEvent):
            node = _Node(_position(event), self._scalar(event, place))
        else:
            self._check_tag(event, place)
            mapping = isinstance(event, MappingStartEvent)
            node = (self._mapping if mapping else self._sequence)(event, events, place)
        if node.size > _MAX_VALUES:
            message = f"holds more than {_MAX_VALUES} values, aliases written out"
            raise _TooMuchError(message, event)
        if isinstance(event, NodeEvent) and event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent) -> _Node:
        # An anchor is known once its value is complete, so that none can hold itself.
        if event.anchor not in self._anchors:
            # Not quoted: it may be a password that begins with `*`.
            message = "the alias stands for nothing, or for itself; put text with * in quotes"
            raise _TooMuchError(message, event)
        return self._anchors[event.anchor]

    def _sequence(self, start: Event, events: Iterator[Event], place: Place) -> _Node:
        items: list[_Node] = []
        size = 1
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self._node(event, events, (*place, len(items))))
            size += items[-1].size
        return _Node(_position(start), items, size)

    def _mapping(self, start: Event, events: Iterator[Event], place: Place) -> _Node:
        entries: dict[str, tuple[Position, _Node]] = {}
        merged: dict[str, tuple[Position, _Node]] = {}
        size = 1
        while not isinstance(event := next(events), MappingEndEvent):
            position = _position(event)
            key = self._key(event, events, place)
            node = self._node(next(events), events, (*place, key))
            size += node.size
            if key == _MERGE:
                self._merge(node, merged, place)
            elif key in entries:
                first = entries[key][0][0]
                message = f"is given twice, first in line {first}"
                self.fault(position, message, shown((*place, key)))
            else:
                entries[key] = (position, node)
        return _Node(_position(start), {**merged, **entries}, size)

    def _key(self, event: Event, events: Iterator[Event], place: Place) -> str:
        if isinstance(event, ScalarEvent):
            # As written: YAML would read a key `on` as true and `1.10` as a number.
            return str(event.value)
        self._node(event, events, place)
        self.fault(_position(event), "a key must be text", shown(place))
        return ""

    def _merge(self, node: _Node, into: dict[str, tuple[Position, _Node]], place: Place) -> None:
        for source in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(source.value, dict):
                self.fault(node.position, "`<<` takes keys and values", shown(place))
                return
            for key, entry in source.value.items():
                into.setdefault(key, entry)

    def _check_tag(self, event: Event, place: Place) -> None:
        tag = event.tag if isinstance(event, CollectionStartEvent) else None
        if tag not in (None, "!", *_KNOWN_TAGS):
            self.fault(_position(event), _UNKNOWN_TAG, shown(place))

    def _scalar(self, event: ScalarEvent, place: Place) -> Any:
        tag: str = event.tag or self._resolve(yaml.ScalarNode, event.value, event.implicit)
        if event.tag not in (None, "!", *_KNOWN_TAGS):
            self.fault(_position(event), _UNKNOWN_TAG, shown(place))
        if event.implicit[0] and event.tag is None and _EXPONENT.fullmatch(event.value):
            # A number to everybody but YAML 1.1, which wants a point in it.
            return float(event.value)
        # Dates, and `1:30` as 90, are nobody's intention here.
        if tag not in _PLAIN_TAGS or ":" in event.value:
            return event.value
        try:
            return self._scalars.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, KeyError, yaml.YAMLError):
            self.fault(_position(event), f"is no {tag.rpartition(':')[2]}", shown(place))
            return None


def _plain(node: _Node, place: Place, positions: dict[Place, Position]) -> Any:
    """The value of a node, aliases written out; `positions` is filled on the way."""
    if isinstance(node.value, list):
        for index, item in enumerate(node.value):
            positions[(*place, index)] = item.position
        return [_plain(item, (*place, i), positions) for i, item in enumerate(node.value)]
    if isinstance(node.value, dict):
        for key, (position, _) in node.value.items():
            positions[(*place, key)] = position
        entries = node.value.items()
        return {key: _plain(item, (*place, key), positions) for key, (_, item) in entries}
    return node.value


def _position(event: Event) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else _TOP


def _no_yaml(error: yaml.MarkedYAMLError) -> str:
    if "nesting" in str(error.problem):
        # Newer C parsers look ahead, so they give up before we see how deep it is.
        return "is nested too deeply"
    return f"is no YAML: {', '.join(part for part in (error.context, error.problem) if part)}"
