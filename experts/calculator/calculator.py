"""The expert that works out arithmetic and unit questions exactly, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from experts.base import Call
from experts.calculator.arithmetic import LONGEST, ArithmeticRefusedError, calculate, show
from experts.calculator.spoken_arithmetic import spelled_to_digits, to_signs
from experts.calculator.unit_conversion import UnitConverter
from experts.cards import ExpertCard
from experts.messages import ChatRequest, Delta, Event, Finish, Usage

NOT_MINE = "I only answer arithmetic and unit conversion questions."

_SENTENCE_END = re.compile(r"[.!?;]+(?=\s|$)|\n+")
_BEFORE = frozenset((
    "a", "answer", "ask", "calculate", "can", "compute", "could", "determine", "do", "does",
    "equal", "equals", "evaluate", "find", "following", "for", "give", "hello", "hey",
    "hi", "how", "i", "is", "it", "know", "let", "me", "much", "need", "now", "of", "ok", "out",
    "please", "problem", "question", "quick", "quickly", "result", "say", "simplify", "so", "solve",
    "tell", "thank", "thanks", "the", "this", "to", "us", "value", "want", "we", "what",
    "what's", "whats", "will", "work", "would", "you", "your",
))  # fmt: skip
_AFTER = frozenset((
    "be", "come", "equal", "equals", "give", "is", "make", "makes", "out", "please", "thanks",
    "to",
))  # fmt: skip
_INSTRUCTION = _BEFORE | frozenset((
    "alone", "an", "and", "any", "as", "back", "but", "digits", "don't", "else", "exact",
    "explain", "explanation", "final", "in", "integer", "just", "no", "not", "nothing", "number",
    "numbers", "numeral", "numerals", "only", "output", "provide", "reply", "respond",
    "return", "show", "single", "state", "unit", "units", "use", "with", "without",
    "working", "write",
))  # fmt: skip
_POLITE = re.compile(
    r"^(?:(?:hey|hi|hello|ok|so|please|quick question|can you|could you|tell me)[,:]? )+|,? please$"
)
_PLAINLY_A_SUM = re.compile(r"[a-z+*^×÷√=]| [-/] ")


class CalculatorExpert:
    """Answers the last user message if all of it is one arithmetic or unit question.

    A word problem is none: what can't be read completely is declined in one sentence, which a
    router learns from like from any wrong answer. Tokens are words, and cost nothing.
    """

    def __init__(self, card: ExpertCard) -> None:
        self._card = card
        self._units = UnitConverter()

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        text = self.work_out(request.question) or NOT_MINE
        yield Delta(text)
        yield Finish("stop")
        yield Usage(input=len(request.text.split()), output=len(text.split()))

    async def aclose(self) -> None:
        """Nothing to give back."""

    def work_out(self, question: str) -> str | None:
        """The answer to `question`, or None if it isn't for a calculator."""
        if len(question) > LONGEST:
            return None
        asked = [s for s in _sentences(question.lower()) if not _is_instruction(s)]
        if len(asked) != 1:
            return None
        sentence = spelled_to_digits(_POLITE.sub("", asked[0]))
        return self._units.answer(sentence) or _arithmetic(sentence)


def _sentences(text: str) -> list[str]:
    return [sentence for part in _SENTENCE_END.split(text) if (sentence := part.strip(" \t\r,:=?"))]


def _is_instruction(sentence: str) -> bool:
    return all(word in _INSTRUCTION for word in re.findall(r"[^\s,:]+", sentence))


def _arithmetic(sentence: str) -> str | None:
    expression = _without_small_talk(to_signs(sentence))
    # "9/11" and "555-1234" are no sums, unless somebody asks what they are.
    if not _PLAINLY_A_SUM.search(sentence):
        return None
    try:
        value = calculate(expression)
    except ArithmeticRefusedError as error:
        return f"This can't be worked out: {error}."
    return None if value is None else show(value)


def _without_small_talk(expression: str) -> str:
    words = expression.split()
    while words and words[0].strip(",:'\"") in _BEFORE:
        words.pop(0)
    while words and words[-1].strip(",:'\"") in _AFTER:
        words.pop()
    return " ".join(words)
