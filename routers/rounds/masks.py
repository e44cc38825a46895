"""Which tokens of a transcript its author wrote: the only ones that training looks at."""

from __future__ import annotations

from collections.abc import Iterator

from experts.compose.rounds.grammar import PUBLISHED, Words, segments
from routers.rounds.episodes import Tokenizer, Tokens

IGNORED = -100
"""The label of a token that the loss leaves out."""


def own_parts(transcript: str, words: Words = PUBLISHED) -> Iterator[tuple[str, bool]]:
    """The transcript in pieces, and whether the driver wrote each.

    Raises:
        ValueError: Its tags are unbalanced or nested.
    """
    start = 0
    for part in segments(transcript, words):
        if part.word != words.information:
            continue
        if part.start > start:
            yield transcript[start : part.start], True
        yield transcript[part.start : part.end], False
        start = part.end
    if start < len(transcript):
        yield transcript[start:], True


def tokens_and_own(
    transcript: str, tokenizer: Tokenizer, words: Words = PUBLISHED
) -> tuple[Tokens, list[int]]:
    """Tokens of a transcript, and for each 1 where the driver wrote it, else 0."""
    tokens: Tokens = []
    own: list[int] = []
    for text, by_driver in own_parts(transcript, words):
        piece = tokenizer.encode(text, add_special_tokens=False)
        tokens += piece
        own += [int(by_driver)] * len(piece)
    return tokens, own


def labels(prompt: Tokens, tokens: Tokens, own: list[int]) -> list[int]:
    """What supervised training is to predict: own tokens, and nothing else."""
    shown = [token if mine else IGNORED for token, mine in zip(tokens, own, strict=True)]
    return [IGNORED] * len(prompt) + shown
