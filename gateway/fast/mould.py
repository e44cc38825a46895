"""Chunks that are like the one before but for their text: most of every stream. Pure."""

from __future__ import annotations

from typing import NamedTuple

_EVENT = b"data: "
_END = b"\n\n"


class Mould(NamedTuple):
    """What stands around the text in chunk after chunk.

    Attributes:
        before: Up to the text, its quote included.
        after: Behind it, from its other quote on.
        our_before, our_after: What the client gets in their place.
    """

    before: bytes
    after: bytes
    our_before: bytes
    our_after: bytes

    def text(self, payload: bytes) -> str | None:
        """The text of a chunk of this form.

        None: it has to be read. So has an empty text, and one with an escape or anything that can't
        be printed.
        """
        start, stop = len(self.before), len(self.after)
        if not (payload.startswith(self.before) and payload.endswith(self.after)):
            return None
        return None if len(payload) <= start + stop else _plain(payload[start:-stop])

    def texts(self, piece: bytes) -> list[str] | None:
        """The texts of a piece of the stream that holds whole events of this form, else None."""
        *events, rest = piece.split(_END)
        if rest:
            return None
        found = []
        for event in events:
            text = self.text(event[len(_EVENT) :]) if event.startswith(_EVENT) else None
            if text is None:
                return None
            found.append(text)
        return found

    def passed(self, chunks: bytes) -> bytes:
        """What the client gets of chunks of this form."""
        # No text holds a quote, so what stands around it is not within it.
        if self.our_after != self.after:
            chunks = chunks.replace(self.after, self.our_after)
        if self.our_before != self.before:
            chunks = chunks.replace(self.before, self.our_before)
        return chunks


def mould_of(payload: bytes, passed: bytes, text: str) -> Mould | None:
    """The form of a chunk.

    Args:
        payload: The chunk as it came.
        passed: The same as it goes to the client; whatever is other does not depend on the text.
        text: All that it says.
    """
    raw = text.encode()
    said = b'"%b"' % raw
    if len(text) < 2 or _plain(raw) is None:
        return None
    if payload.count(said) != 1 or passed.count(said) != 1:
        return None
    before, _, after = payload.partition(said)
    our_before, _, our_after = passed.partition(said)
    return Mould(before + b'"', b'"' + after, our_before + b'"', b'"' + our_after)


def _plain(raw: bytes) -> str | None:
    """The text that stands in JSON as `raw`, if it stands there as it is."""
    if b'"' in raw or b"\\" in raw:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
