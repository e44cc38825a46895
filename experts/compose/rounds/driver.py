"""A chat model that drives: it thinks, asks experts of a pool one after the other, and answers.

Router-R1 (Zhang, Feng and You 2025, https://arxiv.org/abs/2506.09033) as an expert: any chat model
plays the driver, with or without training (`routers.rounds`). What the pool says is shown to it as
information; a question that nobody can be asked, or that fails, is shown as `None`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import ChildRequest, Composed, ask_or_fail, one_answer, used
from experts.compose.rounds.answering import AnswerReader
from experts.compose.rounds.briefing import ASSIST, Briefing, Conversation, Member, Round
from experts.compose.rounds.grammar import (
    NOTHING,
    ExpertQuestion,
    closed,
    fault_of,
    known,
    one_turn,
    read_turn,
    segments,
)
from experts.errors import ExpertCallError, ExpertCapError, ExpertUnavailableError
from experts.messages import ChatRequest, Delta, Event, Finish, Message

_KEPT = ("temperature", "top_p", "top_k", "min_p", "seed", "user", "reasoning_effort")
"""What of the client's parameters is the driver's too: no other form of answer, no other stops."""
_CHARS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class RoundsLimits:
    """Bounds of one conversation; dollars, calls and seconds are the card's caps.

    Attributes:
        rounds: Turns in which an expert may be asked; one more, in which none may, follows.
        turn_tokens: Longest turn of the driver.
        reply_tokens: Longest answer of an expert.
        information_tokens: So much of it is shown, at some four letters a token.
    """

    rounds: int = 4
    turn_tokens: int = 1024
    reply_tokens: int = 512
    information_tokens: int = 600

    def __post_init__(self) -> None:
        for name in ("rounds", "turn_tokens", "reply_tokens", "information_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")


class RoundsExpert(Composed):
    """Asks its driver turn by turn, and whom the driver wants to ask in between.

    Only the text of the answer reaches the client, as it is written; the conversation is left in
    `Call.trace`. A driver that never answers has the last information passed on in its place.

    Args:
        card: See `experts.compose.cards.composed_card`.
        driver: The chat model.
        pool: Whom it may ask.
        members: What it is told of them, in the order in which they are listed.
        limits: How long a conversation may be.
        briefing: How it is asked.
    """

    def __init__(
        self,
        card: ExpertCard,
        driver: Expert,
        pool: Sequence[Expert],
        members: Sequence[Member],
        limits: RoundsLimits = RoundsLimits(),
        briefing: Briefing = Briefing(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__(card)
        self._driver = driver
        self._pool = {expert.card.expert_id: expert for expert in pool}
        self._members = tuple(members)
        self._limits = limits
        self._briefing = briefing

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        one_answer(self.card, request)
        words = self._briefing.words
        talk = Conversation(request, self._briefing, self._members)
        wrote = ""
        for turn in range(self._limits.rounds + 1):
            last = turn == self._limits.rounds
            reader = AnswerReader(words)
            try:
                async with aclosing(self._turn(talk, call, reader, last=last)) as deltas:
                    async for delta in deltas:
                        yield delta
            except ExpertCapError as error:
                # What was asked so far is worth something, if anything was.
                if reader.begun:
                    raise
                for event in self._instead(talk, "", call, error):
                    yield event
                return
            wrote = one_turn(closed(reader.text, words), words)
            if reader.begun:
                call.trace.append(self._verdict(talk, wrote))
                yield Finish("length" if reader.cut else "stop")
                for usage in used(call):
                    yield usage
                return
            if not last:
                talk.rounds.append(await self._informed(talk, wrote, call))
        for event in self._instead(talk, wrote, call, talk.capped or self._silent()):
            yield event

    async def _turn(
        self, talk: Conversation, call: Call, reader: AnswerReader, *, last: bool
    ) -> AsyncGenerator[Event, None]:
        """One turn of the driver: the pieces of the answer, if it gives one."""
        async with aclosing(call.run(self._driver, self._asked(talk, last=last))) as events:
            async for event in events:
                if isinstance(event, Delta) and (new := reader.add(event.text)):
                    yield Delta(new)
                elif isinstance(event, Finish):
                    reader.reason = event.reason
        if rest := reader.end():
            yield Delta(rest)

    def _asked(self, talk: Conversation, *, last: bool) -> ChatRequest:
        card, request = self._driver.card, talk.request
        params: dict[str, Any] = {
            name: request.params[name] for name in _KEPT if name in request.params
        }
        if self._briefing.stop:
            params["stop"] = list(self._briefing.words.stops)
        prefill = card.prefill and bool(talk.rounds)
        if prefill and card.wire == "openai":
            params |= {"continue_final_message": True, "add_generation_prompt": False}
        return ChatRequest(
            talk.messages(prefill=prefill, last=last),
            max_tokens=self._limits.turn_tokens,
            stream=request.stream,
            params=params,
        )

    async def _informed(self, talk: Conversation, wrote: str, call: Call) -> Round:
        """Ask whom the driver wants to ask, and put what it is shown on record."""
        words = self._briefing.words
        note: dict[str, Any] = {"asked": None}
        turn, said = read_turn(wrote, words), ""
        if isinstance(turn, ExpertQuestion):
            note["asked"] = expert = known(turn.expert, self._pool)
            if expert is None or not turn.query:
                note["invalid"] = "unknown expert" if turn.query else "nothing is asked"
            else:
                reply = await ask_or_fail(
                    call, ChildRequest(self._pool[expert], self._put(turn.query))
                )
                said = reply.text[: self._limits.information_tokens * _CHARS_A_TOKEN]
                if reply.error is not None:
                    note["invalid"] = reply.error.kind
                if isinstance(reply.error, ExpertCapError):
                    talk.capped = reply.error
        else:
            note["invalid"] = "neither a question nor an answer"
        given = words.informed(said)
        call.trace.append({**note, "text": {"wrote": wrote, "given": given}})
        return Round(wrote, given)

    def _put(self, query: str) -> ChatRequest:
        messages = (Message("system", ASSIST), Message("user", query))
        return ChatRequest(messages, self._limits.reply_tokens, params={"temperature": 0})

    def _verdict(self, talk: Conversation, wrote: str) -> dict[str, Any]:
        """The last record: whether the whole keeps the format."""
        words = self._briefing.words
        whole = f"{talk.transcript}\n{wrote}" if talk.rounds else wrote
        fault = fault_of(whole, self._pool, words, colons=False)
        return {"fault": None if fault is None else fault.value, "text": {"wrote": wrote}}

    def _instead(
        self, talk: Conversation, wrote: str, call: Call, error: ExpertCallError
    ) -> Iterator[Event]:
        """What to say for a driver that doesn't: the last information, or its words if untagged."""
        said, source = self._last_known(talk), "information"
        if not said and all(f"<{word}>" not in wrote for word in self._briefing.words.all):
            said, source = wrote.strip(), "untagged"
        call.trace.append({**self._verdict(talk, wrote), "instead": source if said else "nothing"})
        if not said:
            raise error
        yield Delta(said)
        yield Finish("stop")
        yield from used(call)

    def _last_known(self, talk: Conversation) -> str:
        for turn in reversed(talk.rounds):
            (part,) = segments(turn.given, self._briefing.words)
            if part.text != NOTHING:
                return part.text
        return ""

    def _silent(self) -> ExpertCallError:
        driver = self._driver.card.expert_id
        return ExpertUnavailableError(self.card.expert_id, f"its driver {driver!r} did not answer")
