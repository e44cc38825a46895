"""What a driver is told: how to write, whom it may ask, and the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from experts.cards import ExpertCard
from experts.compose.rounds.grammar import PUBLISHED, Words, escaped
from experts.errors import ExpertCapError
from experts.messages import ChatRequest, Message

TEMPLATE = """\
Answer the question at the end. You may ask other experts before you do.
Write in tags, and nothing outside of them:
1. <{think}>what you know, and what you still need</{think}>
2. If you need something: <{route}>name:question</{route}> with the name of one expert of the list,
one colon, and a question that can be understood without anything else. You are then shown what it
said between <{information}> and </{information}>. It may be wrong. Go on with 1.
3. As soon as you know it: <{answer}>the answer, as short as can be</{answer}>

Begin with <{think}>. End with </{answer}>.

For example, with an expert called atlas:
<{think}>I need to know where Lake Titicaca lies.</{think}>
<{route}>atlas:Which countries share Lake Titicaca?</{route}>
<{information}>Peru and Bolivia.</{information}>
<{think}>That answers it.</{think}>
<{answer}>Peru and Bolivia</{answer}>

The experts:
{experts}

Question: {question}"""
LAST = "Nobody can be asked any more: think once and give the answer in its tags."
ASSIST = (
    "Another model asks you, on the way to an answer of its own. Help it with what you know, "
    "briefly and exactly. Say so if you don't know."
)


@dataclass(frozen=True, slots=True)
class Member:
    """An expert that a driver may ask.

    Attributes:
        card: What is known of it.
        latency_s: Seconds it usually takes, None when unknown.
        examples: Requests that it answered well.
    """

    card: ExpertCard
    latency_s: float | None = None
    examples: tuple[str, ...] = ()

    def described(self) -> str:
        """One line for the driver, from nothing but this: an expert it never met will do."""
        facts = [self.card.description.strip() or "No description."]
        prices = self.card.prices
        facts.append(
            f"${prices.output:g} per million tokens." if prices else "Its price is unknown."
        )
        if self.latency_s is not None:
            facts.append(f"Takes about {self.latency_s:.2g} s.")
        if self.examples:
            facts.append("Good at: " + "; ".join(self.examples) + ".")
        return f"- {self.card.expert_id}: {' '.join(facts)}"


@dataclass(frozen=True, slots=True)
class Briefing:
    """How a driver is asked.

    Attributes:
        template: The prompt; `{experts}`, `{question}` and the names of the tags (`{think}`,
            `{route}`, `{information}`, `{answer}`) are filled in.
        last: What is added when nobody can be asked any more, to a driver that is told the
            information as a user; "" adds nothing.
        words: How the tags are called.
        stop: Whether it is asked to stop at the tags; not every model takes that, and what it
            writes beyond them is not read anyway.
    """

    template: str = TEMPLATE
    last: str = LAST
    words: Words = PUBLISHED
    stop: bool = True

    def prompt(self, question: str, members: Sequence[Member]) -> str:
        """The prompt; a tag in the question is taken apart."""
        tags: Mapping[str, str] = {
            "think": self.words.think,
            "route": self.words.route,
            "information": self.words.information,
            "answer": self.words.answer,
        }
        lines = "\n".join(member.described() for member in members)
        filled = self.template
        for name, word in tags.items():
            filled = filled.replace(f"{{{name}}}", word)
        # The question comes last, so that nothing in it is taken for a place to fill.
        before, place, after = filled.partition("{question}")
        before, after = (part.replace("{experts}", lines) for part in (before, after))
        return before + (escaped(question, self.words) if place else "") + after


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the driver and what it was shown then."""

    wrote: str
    given: str


@dataclass(slots=True)
class Conversation:
    """What driver and experts have said so far on one request.

    Attributes:
        capped: Why somebody could not be asked, if a cap left no room for it.
    """

    request: ChatRequest
    briefing: Briefing
    members: Sequence[Member]
    rounds: list[Round] = field(default_factory=list)
    capped: ExpertCapError | None = None

    @property
    def transcript(self) -> str:
        """Everything after the prompt."""
        return "\n".join(f"{turn.wrote}\n{turn.given}" for turn in self.rounds)

    def messages(self, *, prefill: bool, last: bool) -> tuple[Message, ...]:
        """What the driver reads next.

        Args:
            prefill: It goes on with an assistant's message; else it is shown information as a user.
            last: Nobody can be asked any more.
        """
        begun = self._begun()
        if not self.rounds:
            return begun
        if prefill:
            return (*begun, Message("assistant", f"{self.transcript}\n"))
        said = [
            Message(role, text)
            for turn in self.rounds
            for role, text in (("assistant", turn.wrote), ("user", turn.given))
        ]
        if last and self.briefing.last:
            said[-1] = Message("user", f"{said[-1].text}\n{self.briefing.last}")
        return (*begun, *said)

    def _begun(self) -> tuple[Message, ...]:
        """The client's messages with the prompt around the last question."""
        *earlier, asked = self.request.messages
        if asked.role != "user" or asked.modalities != {"text"}:
            earlier, asked = [*self.request.messages], Message("user", self.request.question)
        prompt = self.briefing.prompt(asked.text, self.members)
        return (*earlier, replace(asked, content=prompt, source=None))
