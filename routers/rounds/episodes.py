"""Conversations for training: a policy samples turns, a pool answers, each token has its author."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from experts.compose.rounds.grammar import (
    PUBLISHED,
    Answered,
    ExpertQuestion,
    Words,
    known,
    read_turn,
)
from routers.rounds.reward import Paid

Tokens = list[int]
Row = Mapping[str, Any]
"""A question: its `question`, the `answers` accepted, and whatever else the pool goes by."""


@dataclass(frozen=True, slots=True)
class PaidReply:
    """What an expert said, and what it is paid for it."""

    text: str
    paid: Paid


@dataclass(frozen=True, slots=True)
class Question:
    """What an expert is asked: `query`, on the way to an answer to `row`."""

    row: Row
    expert: str
    query: str


class RoundsPool(Protocol):
    """Experts that a policy is trained with."""

    @property
    def experts(self) -> Collection[str]: ...

    def ask(self, questions: Sequence[Question]) -> Sequence[PaidReply | None]:
        """What was said to each, None where the expert failed."""
        ...


class Sampler(Protocol):
    """The policy: goes on from each prefix until a stop, which it includes, or its limit."""

    def __call__(self, prefixes: Sequence[Tokens]) -> Sequence[Tokens]: ...


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is needed here."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Tokens: ...

    def decode(self, token_ids: Tokens, *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class RoundLimits:
    """Bounds of one conversation.

    Attributes:
        rounds: Turns in which an expert may be asked; one more, in which none may, follows.
        information_tokens: Of what an expert said so much is read, in the policy's tokens.
        tokens: Most tokens after the prompt, information included.
    """

    rounds: int = 4
    information_tokens: int = 600
    tokens: int = 4096


@dataclass(slots=True)
class Episode:
    """One conversation.

    Attributes:
        prompt: Tokens before the policy's first.
        tokens: All tokens after them.
        own: 1 where the policy wrote the token, 0 where it was given it: what the loss counts.
        text: What the tokens say.
        paid: The calls that were made and answered.
        invalid: Turns that asked nobody, or somebody who failed, and did not answer either.
    """

    row: Row
    prompt: Tokens
    tokens: Tokens = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    text: str = ""
    paid: list[Paid] = field(default_factory=list)
    invalid: int = 0
    done: bool = False

    def wrote(self, tokens: Tokens, text: str) -> None:
        self._add(tokens, text, 1)

    def was_given(self, tokens: Tokens, text: str) -> None:
        self._add(tokens, text, 0)

    def _add(self, tokens: Tokens, text: str, own: int) -> None:
        self.tokens += tokens
        self.own += [own] * len(tokens)
        self.text += text


class Conversations:
    """Lets a policy talk with a pool.

    Args:
        pool: Whom it may ask.
        tokenizer: The policy's.
        words: How the tags are called.
        limits: How long a conversation may be.
    """

    def __init__(
        self,
        pool: RoundsPool,
        tokenizer: Tokenizer,
        words: Words = PUBLISHED,
        limits: RoundLimits = RoundLimits(),
    ) -> None:
        self._pool = pool
        self._tokenizer = tokenizer
        self._words = words
        self._limits = limits

    def hold(
        self, rows: Sequence[Row], prompts: Sequence[Tokens], sample: Sampler
    ) -> list[Episode]:
        """One conversation for each row, all of them side by side."""
        pairs = zip(rows, prompts, strict=True)
        episodes = [Episode(row, list(prompt)) for row, prompt in pairs]
        for turn in range(self._limits.rounds + 1):
            going = [episode for episode in episodes if not episode.done]
            if not going:
                break
            turns = sample([episode.prompt + episode.tokens for episode in going])
            last = turn == self._limits.rounds
            self._inform(self._read(going, turns, last=last))
        return episodes

    def _read(
        self, going: Sequence[Episode], turns: Sequence[Tokens], *, last: bool
    ) -> list[tuple[Episode, ExpertQuestion | None]]:
        """The conversations that go on, each with its question if it has one."""
        open_: list[tuple[Episode, ExpertQuestion | None]] = []
        for episode, tokens in zip(going, turns, strict=True):
            room = self._limits.tokens - len(episode.tokens)
            text = self._decode(tokens := list(tokens[:room]))
            episode.wrote(tokens, text)
            turn = read_turn(text, self._words)
            episode.done = last or isinstance(turn, Answered) or len(tokens) == room
            if not episode.done:
                open_.append((episode, turn if isinstance(turn, ExpertQuestion) else None))
        return open_

    def _inform(self, open_: Sequence[tuple[Episode, ExpertQuestion | None]]) -> None:
        questions: list[Question] = []
        places: list[int | None] = []
        for episode, asked in open_:
            expert = known(asked.expert, self._pool.experts) if asked else None
            if asked is None or expert is None or not asked.query:
                places.append(None)
            else:
                places.append(len(questions))
                questions.append(Question(episode.row, expert, asked.query))
        replies = self._pool.ask(questions) if questions else ()
        for (episode, _), place in zip(open_, places, strict=True):
            self._tell(episode, None if place is None else replies[place])

    def _tell(self, episode: Episode, reply: PaidReply | None) -> None:
        said = ""
        if reply is None:
            episode.invalid += 1
        else:
            episode.paid.append(reply.paid)
            tokens = self._encode(reply.text)
            said = self._decode(tokens[: self._limits.information_tokens])
        text = self._words.informed(said)
        tokens = self._encode(text)[: self._limits.tokens - len(episode.tokens)]
        episode.was_given(tokens, text)
        episode.done = len(episode.tokens) >= self._limits.tokens

    def _encode(self, text: str) -> Tokens:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _decode(self, tokens: Tokens) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)
