"""Parts of an answer in the only shapes that all behind a reader counts on. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experts.messages import Json

_MOST_CHOICES = 1024


def index_of(said: Json, missing: int = 0) -> int:
    """The `index` of a choice or a block. Writers and clients make all that come before it.

    Raises:
        TypeError, ValueError: It is none.
    """
    index = said.get("index")
    if index is None:
        return missing
    number = int(index)
    if number != index and not isinstance(index, str):
        raise ValueError("an index must be a whole number")
    if not 0 <= number < _MOST_CHOICES:
        raise ValueError("no answer has so many choices")
    return number


def word_of(said: Json, name: str) -> str | None:
    """The word under `name`, e.g. why an answer ended; None: there is no word."""
    word = said.get(name)
    return word if isinstance(word, str) and word else None


def logprobs_of(choice: Json) -> Json | None:
    """The log probabilities of a choice, in OpenAI's shape or its legacy one.

    What is of another shape is left out: an answer is not lost for what is said about it.
    """
    said = choice.get("logprobs")
    if not isinstance(said, dict):
        return None
    found = {name: value for name, value in said.items() if name not in _LISTS}
    for name in _LISTS & said.keys():
        listed, fits = said[name], _FITS.get(name, _is_token)
        if listed is None or _are_all(listed, fits):
            found[name] = listed
    return found if any(found.values()) else None


def _is_token(token: Any) -> bool:
    return _is_bare_token(token) and (
        token.get("top_logprobs") is None or _are_all(token["top_logprobs"], _is_bare_token)
    )


def _is_bare_token(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("token"), str)
        and _is_number(token.get("logprob"))
        and (token.get("bytes") is None or _are_all(token["bytes"], _is_whole))
    )


def _are_all(listed: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(listed, list) and all(map(fits, listed))


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Any], bool]] = {
    "tokens": lambda token: isinstance(token, str),
    "token_logprobs": lambda number: number is None or _is_number(number),
    "text_offset": _is_whole,
    "top_logprobs": lambda top: (
        top is None or (isinstance(top, dict) and all(map(_is_number, top.values())))
    ),
}
_LISTS = frozenset({"content", "refusal", *_FITS})
