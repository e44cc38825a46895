"""Checks that know whether an answer is right, and say so when they can't tell.

Exact arithmetic is here; schemas, patterns and code that runs are brought by who wires things up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from experts.base import Call
from experts.calculator.arithmetic import ArithmeticRefusedError, calculate
from experts.calculator.calculator import CalculatorExpert
from experts.compose.base import ChildRequest, Reply
from experts.compose.deferral.base import SignalResult
from experts.compose.grouping import last_number, number_of, numeric_key
from experts.messages import ChatRequest

_FEWEST_PLACES = 2
_NUMBER = r"\(*+[-−]?\d[\d.,]*+\)*+"
_AND_ANOTHER = rf"(?:\s*[-+*/×÷−]\s*{_NUMBER})"
# What is no equation is passed over as a whole: to begin again within it takes quadratic time.
_EQUATION = re.compile(
    rf"({_NUMBER}{_AND_ANOTHER}++)\s*=\s*([-−]?\d[\d.,]*+)(?![ \t]*[-+*/×÷−][ \t]*\(*\d)"
    rf"|{_NUMBER}{_AND_ANOTHER}*+|\(++"
)


class Verifier(Protocol):
    """Knows whether an answer is right, or that it can't tell."""

    async def verify(self, request: ChatRequest, text: str) -> bool | None:
        """True or False; None: it can't tell."""
        ...


@dataclass(frozen=True, slots=True)
class Verified:
    """1 if no verifier finds a fault and one at least can tell, 0 if one finds a fault.

    Attributes:
        verifiers: Asked in this order until one finds a fault.
    """

    verifiers: Sequence[Verifier]

    @property
    def calls(self) -> float:
        return 0.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        return request

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        told = False
        for verifier in self.verifiers:
            right = await verifier.verify(request, reply.text)
            if right is False:
                return SignalResult(0.0)
            told |= right is True
        return SignalResult(1.0 if told else None)


class ExactArithmetic:
    """Whether an answer's sums are right: the one that was asked for, or those it writes down."""

    def __init__(self, calculator: CalculatorExpert) -> None:
        self._calculator = calculator

    async def verify(self, request: ChatRequest, text: str) -> bool | None:
        worked_out = self._calculator.work_out(request.question)
        value = None if worked_out is None else numeric_key(worked_out)
        if isinstance(value, float) and math.isfinite(value):
            said = last_number(text)
            return said is not None and _near(value, said)
        found = [
            right for sum_, said in _equations(text) if (right := _holds(sum_, said)) is not None
        ]
        return all(found) if found else None


def _equations(text: str) -> Iterator[tuple[str, str]]:
    """Sums that a text writes down, and what it writes beside each."""
    return ((found[1], found[2]) for found in _EQUATION.finditer(text) if found[1])


def _holds(left: str, right: str) -> bool | None:
    """Whether a sum that is written down has the value that is written beside it."""
    signs = str.maketrans({"×": "*", "÷": "/", "−": "-", ",": ""})
    try:
        value = calculate(left.translate(signs).strip())
        return None if value is None else _near(float(value), right.translate(signs).rstrip("."))
    except (ArithmeticRefusedError, OverflowError, ValueError):
        # It has no result or too large a one, or beside it stands no number but a version.
        return None


def _near(value: float, said: str) -> bool:
    """Whether a number that is written down is `value`, rounded to two places or more perhaps."""
    places = _places(said)
    slack = 10**-places / 2 if places >= _FEWEST_PLACES else 0.0
    return abs(value - number_of(said)) <= slack + 1e-9 * max(abs(value), 1.0)


def _places(number: str) -> int:
    """Digits after the point: a value may be rounded to what is shown."""
    return len(number.partition(".")[2])
