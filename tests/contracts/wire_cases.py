"""Conversations and answers free of any format, and how to generate them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from experts.messages import Usage

Call = tuple[str, str, dict[str, Any]]
"""Id, name, arguments."""


@dataclass(frozen=True)
class Turn:
    """One message. `parts` are texts and, as ("image", data URL), pictures."""

    role: str
    parts: tuple[Any, ...] = ()
    calls: tuple[Call, ...] = ()
    result_of: str | None = None


@dataclass(frozen=True)
class Wanted:
    """A request."""

    turns: tuple[Turn, ...]
    max_tokens: int = 100
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    choice: str | None = None
    """`auto`, `none`, `required` or the name of a tool."""
    parallel: bool = True
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Said:
    """An answer; `finish` in OpenAI's words."""

    text: str = ""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    usage: Usage = field(default_factory=Usage)
    sizes: tuple[int, ...] = (3,)
    """Lengths of the pieces that a stream is cut into, over and over."""

    def heard(self) -> Said:
        """What a client must have heard, however it was cut."""
        return replace(self, sizes=())


TOOL_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="

_texts = st.text(min_size=1, max_size=20)
_words = st.text('abc xyz\n"\\{}é😀', min_size=1, max_size=12).filter(str.strip)
_names = st.sampled_from(["weather", "search", "run_code"])
_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _texts | st.floats(-1e9, 1e9)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3)
)
_arguments = st.dictionaries(_texts, _json, max_size=3)
_counts = st.integers(0, 10**6)


@st.composite
def _calls(draw: st.DrawFn, at_most: int = 3) -> tuple[Call, ...]:
    count = draw(st.integers(1, at_most))
    return tuple((f"call_{n}", draw(_names), draw(_arguments)) for n in range(count))


@st.composite
def answers(draw: st.DrawFn) -> Said:
    calls = draw(st.just(()) | _calls())
    text = draw(_texts | st.just("") if calls else _texts)
    ends = st.just("tool_calls") if calls else st.sampled_from(["stop", "length", "content_filter"])
    return Said(
        text,
        draw(st.just("") | _texts),
        calls,
        draw(ends),
        Usage(draw(_counts), draw(_counts), draw(_counts), draw(_counts), draw(_counts)),
        tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))),
    )


@st.composite
def requests(draw: st.DrawFn) -> Wanted:
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn("system", (draw(_words),)))
    turns.append(Turn("user", draw(_user_parts())))
    for _ in range(draw(st.integers(0, 2))):
        turns += draw(_exchanges())
    tools = tuple(draw(st.lists(_names, max_size=3, unique=True)))
    choices = ["auto", "none", "required", *tools] if tools else []
    return Wanted(
        tuple(turns),
        draw(st.integers(1, 5000)),
        draw(st.none() | st.sampled_from([0.0, 0.5, 1.0])),
        tuple(draw(st.lists(_words, max_size=2))),
        tools,
        draw(st.none() | st.sampled_from(choices)) if choices else None,
        draw(st.booleans()) if tools else True,
        draw(st.none() | st.just(TOOL_SCHEMA)),
    )


@st.composite
def _user_parts(draw: st.DrawFn) -> tuple[Any, ...]:
    picture = st.just(("image", PIXEL)) | st.just(("image", "https://example.org/a.png"))
    return tuple(draw(st.lists(_words | picture, min_size=1, max_size=3)))


@st.composite
def _exchanges(draw: st.DrawFn) -> list[Turn]:
    """What the model said and what it was told next: results of its calls, or another question."""
    calls = draw(st.just(()) | _calls(2))
    said = (draw(_words),) if not calls or draw(st.booleans()) else ()
    results = [Turn("tool", (draw(_words),), result_of=name) for name, _, _ in calls]
    more = not results or draw(st.booleans())
    asked = [Turn("user", draw(_user_parts()))] if more else []
    return [Turn("assistant", said, calls), *results, *asked]


def cut(text: str, sizes: tuple[int, ...]) -> list[str]:
    """`text` in pieces of these lengths, over and over."""
    pieces, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[start : start + size])
        start, turn = start + size, turn + 1
    return pieces
