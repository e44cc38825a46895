"""Reads a driver's turn as it is written, and lets the text of its answer through at once."""

from __future__ import annotations

from experts.compose.rounds.grammar import PUBLISHED, Words


class AnswerReader:
    """Told one turn piece by piece.

    What `add` and `end` return is, put together, the answer without the space around it. A turn
    that asks before it answers has no answer: the question comes first.

    Attributes:
        text: The turn so far.
        begun: A part of the answer was let through.
        reason: Why the driver stopped, once that is known.
    """

    def __init__(self, words: Words = PUBLISHED) -> None:
        self.text = ""
        self.begun = False
        self.reason = "stop"
        self._open = f"<{words.answer}>"
        self._close = f"</{words.answer}>"
        self._question = f"</{words.route}>"
        self._start: int | None = None
        self._sent = 0

    @property
    def cut(self) -> bool:
        """Whether the driver was stopped by a limit before the answer was whole."""
        return self.reason == "length" and self._close not in self.text

    def add(self, piece: str) -> str:
        """The part of the answer that `piece` brings."""
        self.text += piece
        return self._new(whole=False)

    def end(self) -> str:
        """The part of the answer that was held back; the turn is over."""
        return self._new(whole=True)

    def _new(self, *, whole: bool) -> str:
        if self._start is None and not self._begins():
            return ""
        assert self._start is not None  # noqa: S101 - it begins
        body, closed, _ = self.text[self._start :].partition(self._close)
        if not (closed or whole):
            body = body[: len(body) - _held(body, self._close)]
        body = body.strip()
        new, self._sent = body[self._sent :], max(self._sent, len(body))
        self.begun = self.begun or bool(new)
        return new

    def _begins(self) -> bool:
        place = self.text.find(self._open)
        question = self.text.find(self._question)
        if place < 0 or 0 <= question < place:
            return False
        self._start = place + len(self._open)
        return True


def _held(body: str, tag: str) -> int:
    """Letters at the end of `body` that may be the beginning of `tag`."""
    longest = min(len(tag) - 1, len(body))
    return next((n for n in range(longest, 0, -1) if tag.startswith(body[-n:])), 0)
