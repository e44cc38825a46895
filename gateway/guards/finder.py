"""Finds what guards look for, in whole texts and in streams, in time linear in the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.guards.beginnings import PatternError, beginnings, widths

# A match in a stream is held back until it is over, so it must end some time.
LONGEST_STREAMED = 2_000
_MOST_CANDIDATES = 10_000


class GuardOverloadedError(Exception):
    """A text holds so many near matches that looking at each would hold others up."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing to find.

    Attributes:
        name: What records call it.
        pattern: In the syntax that RE2 and Python's `re` share; never matches "".
        accept: How many characters of a match are really it, 0 for none; None takes all of it.
    """

    name: str
    pattern: str
    accept: Callable[[str], int] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One thing found."""

    name: str
    text: str


Piece = str | Found


class Finder:
    """Several detectors as one.

    Where matches overlap the one that begins first counts, and of those that begin together that
    of the first detector. Frozen; each text has its own `Scan`.

    Args:
        detectors: At least one.
        streams: Whether texts come in pieces; then no pattern may match without bound.

    Raises:
        PatternError: A pattern can't be used, named by its detector.
    """

    def __init__(self, detectors: Sequence[Detector], *, streams: bool) -> None:
        for detector in detectors:
            _check(detector, streams)
        self.detectors = [(each, compiled(each.pattern)) for each in detectors]
        self.any = compiled("|".join(f"(?:{each.pattern})" for each in detectors))
        tails = "|".join(f"(?:{beginnings(each.pattern)})" for each in detectors)
        self.tail = compiled(rf"(?:{tails})\z") if streams else None

    def pieces(self, text: str) -> Iterator[Piece]:
        """The whole of a text: what was found, and what lies between."""
        return Scan(self).feed(text, final=True)


class Scan:
    """One text, piece by piece. However it is cut, the same things are found in it."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        # UTF-8, as RE2 has it; of what has gone out one character is kept for word boundaries.
        self._text = b""
        self._at = 0
        self._begun = 0
        self._candidates = 0

    def feed(self, text: str, *, final: bool = False) -> Iterator[Piece]:
        """What is certain by now. Held back is only what may be the beginning of a match.

        Raises:
            GuardOverloadedError: Too many candidates were no match.
        """
        self._text += _encoded(text)
        certain = self._certain(final)
        start = self._begun = self._at
        while (match := self._finder.any.search(self._text, self._at)) is not None:
            begin = match.start()
            if begin >= certain:
                break
            found, end = self._accepted(begin)
            self._at = end
            if found is not None:
                if begin > start:
                    yield _decoded(self._text[start:begin])
                yield found
                start = end
                certain = max(certain, end) if final else self._certain(final)
        self._at = max(self._at, certain)
        if self._at > start:
            yield _decoded(self._text[start : self._at])
        self._forget()

    def _certain(self, final: bool) -> int:
        """Up to here no later text can change what is found."""
        if final or self._finder.tail is None:
            return len(self._text)
        tail = self._finder.tail.search(self._text, self._at)
        return int(tail.start()) if tail else len(self._text)

    def _accepted(self, begin: int) -> tuple[Found | None, int]:
        """What is found at `begin` and where to go on."""
        for detector, pattern in self._finder.detectors:
            match = pattern.match(self._text, begin)
            if match is None or match.end() == begin:
                continue
            text = _decoded(self._text[begin : match.end()])
            taken = len(text) if detector.accept is None else detector.accept(text)
            if taken:
                end = begin + len(_encoded(text[:taken]))
                return Found(detector.name, text[:taken]), end
        self._candidates += 1
        if self._candidates > _MOST_CANDIDATES:
            raise GuardOverloadedError
        return None, _next_character(self._text, begin)

    def _forget(self) -> None:
        keep = self._at
        while keep > 0:
            keep -= 1
            if self._text[keep] & 0xC0 != 0x80:
                break
        self._text, self._at = self._text[keep:], self._at - keep
        self._begun = self._at

    @property
    def held(self) -> str:
        """What went in and did not come out; of a `feed` that failed, all of it."""
        return _decoded(self._text[self._begun :])


def compiled(pattern: str) -> Any:
    """A pattern of RE2.

    Raises:
        PatternError: RE2 can't read it, or is not installed.
    """
    try:
        import re2
    except ImportError as error:
        raise PatternError("guards need the extra: pip install 'pointsman[guards]'") from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise PatternError(said.decode() if isinstance(said, bytes) else str(said)) from error


def _check(detector: Detector, streams: bool) -> None:
    try:
        compiled(detector.pattern)
        least, most = widths(detector.pattern)
    except PatternError as error:
        raise PatternError(f"{detector.name}: {error}") from error
    if least == 0:
        raise PatternError(f"{detector.name}: the pattern matches the empty text")
    if streams and (most is None or most > LONGEST_STREAMED):
        raise PatternError(
            f"{detector.name}: on output a match must end within {LONGEST_STREAMED} characters; "
            "write {1,200} instead of + and {0,200} instead of *"
        )


def _next_character(text: bytes, at: int) -> int:
    at += 1
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _decoded(data: bytes) -> str:
    return data.decode(errors="surrogatepass")
