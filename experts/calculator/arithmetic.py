"""Works out an arithmetic expression exactly.

Nothing is ever run as code: a small grammar is read by hand, and every size is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from math import isqrt, log10

LONGEST = 400
"""Characters of an expression; longer ones are not read."""
_MOST_DIGITS = 400
_MOST_EXPONENT = 10_000
_MOST_DEPTH = 30
_ROOT_DIGITS = 40
_EXACT = Context(prec=20)
_ROUNDED = Context(prec=12)
_LARGEST_SHOWN_DENOMINATOR = 1_000_000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![0-9.])|\.[0-9]+(?![0-9.]))"
    r"|(?P<sign>[-+*/^%()])"
    r"|(?P<word>[a-z]+))\s*"
)
_LOOKS_LIKE_DATE = re.compile(
    r"[0-9]{4}[/-][0-9]{1,2}[/-][0-9]{1,2}|[0-9]{1,2}[/-][0-9]{1,2}[/-][0-9]{4}"
    r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{2}"
)


class ArithmeticRefusedError(ValueError):
    """An expression without a result, or with one too long to write down."""


class _NotAnExpressionError(ValueError):
    pass


def calculate(expression: str) -> Fraction | None:
    """Work out an expression of numbers, `+ - * / ^ mod`, parentheses and prefix words.

    The prefix words are `sqrt`, `half`, `third`, `quarter` and `double`; `12% * 50` is a
    percentage of what follows.

    Args:
        expression: ASCII text in lower case.

    Returns:
        The result; None if the text is no expression, or a lone number, or looks like a date. Exact
        but for roots of numbers that are no squares, which are good to 40 digits.

    Raises:
        ArithmeticRefusedError: There is no result (division by zero), or it has too many digits.
    """
    if len(expression) > LONGEST or _LOOKS_LIKE_DATE.fullmatch(expression.strip()):
        return None
    try:
        tokens = _tokens(expression)
        return _Reader(tokens).read() if _asks_for_work(tokens) else None
    except _NotAnExpressionError:
        return None


def show(value: Fraction) -> str:
    """Write a result for people: exactly where that is short, else rounded to 12 digits."""
    if value.denominator == 1:
        return str(value.numerator)
    top, bottom = Decimal(value.numerator), Decimal(value.denominator)
    decimal = _EXACT.divide(top, bottom)
    if Fraction(decimal) == value:
        return f"{decimal:f}"
    rounded = _ROUNDED.divide(top, bottom)
    if value.denominator <= _LARGEST_SHOWN_DENOMINATOR:
        return f"{value} ≈ {rounded:f}"
    return f"about {rounded:f}"


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise _NotAnExpressionError
        tokens.append(match[match.lastgroup or 0])
        at = match.end()
    return tokens


def _asks_for_work(tokens: list[str]) -> bool:
    numbers = sum(_is_number(token) for token in tokens)
    return numbers > 1 or any(token in _PREFIXES for token in tokens)


def _is_number(token: str) -> bool:
    return token[0].isdigit() or token[0] == "."


class _Reader:
    """Reads tokens by precedence: + - below * / mod, below signs, below powers."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def read(self) -> Fraction:
        value = self._sum()
        if self._at < len(self._tokens):
            raise _NotAnExpressionError
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._take("+", "-"):
            right = self._product()
            value = _bounded(value + right if sign == "+" else value - right)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._take("*", "/", "mod"):
            right = self._signed()
            if sign != "*" and right == 0:
                raise ArithmeticRefusedError("division by zero has no result")
            value = _bounded(_MULTIPLY[sign](value, right))
        return value

    def _signed(self) -> Fraction:
        sign = self._take("+", "-")
        if not sign:
            return self._power()
        value = self._deeper(self._signed)
        return -value if sign == "-" else value

    def _deeper(self, read: Callable[[], Fraction]) -> Fraction:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise ArithmeticRefusedError("the expression is nested too deeply")
        value = read()
        self._depth -= 1
        return value

    def _power(self) -> Fraction:
        base = self._atom()
        return _power(base, self._deeper(self._signed)) if self._take("^") else base

    def _atom(self) -> Fraction:
        found = self._next()
        if found == "(":
            value = self._deeper(self._sum)
            if not self._take(")"):
                raise _NotAnExpressionError
            return value
        if found in _PREFIXES:
            return _PREFIXES[found](self._deeper(self._atom))
        if not _is_number(found):
            raise _NotAnExpressionError
        return self._percent_of(Fraction(found))

    def _percent_of(self, number: Fraction) -> Fraction:
        if not self._take("%"):
            return number
        if not self._take("*"):
            raise _NotAnExpressionError  # "100 + 10%" means different things to different people
        return _bounded(number / 100 * self._deeper(self._signed))

    def _take(self, *wanted: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in wanted:
            return self._next()
        return None

    def _next(self) -> str:
        if self._at == len(self._tokens):
            raise _NotAnExpressionError
        self._at += 1
        return self._tokens[self._at - 1]


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent == Fraction(1, 2):
        return _square_root(base)
    if exponent.denominator != 1:
        raise ArithmeticRefusedError("only whole powers and square roots are worked out")
    if base == 0 and exponent < 0:
        raise ArithmeticRefusedError("division by zero has no result")
    digits = abs(exponent) * Fraction(log10(max(abs(base.numerator), base.denominator, 1)))
    if abs(exponent) > _MOST_EXPONENT or digits > _MOST_DIGITS:
        raise ArithmeticRefusedError("the result has too many digits to write down")
    return Fraction(base ** int(exponent))


def _square_root(value: Fraction) -> Fraction:
    if value < 0:
        raise ArithmeticRefusedError("a negative number has no real square root")
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root == value:
        return root
    shift = 10**_ROOT_DIGITS
    return Fraction(isqrt(value.numerator * shift * shift // value.denominator), shift)


def _bounded(value: Fraction) -> Fraction:
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits > _MOST_DIGITS * log10(10) / log10(2):
        raise ArithmeticRefusedError("the result has too many digits to write down")
    return value


_MULTIPLY: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "mod": lambda left, right: left % right,
}
_PREFIXES: Mapping[str, Callable[[Fraction], Fraction]] = {
    "sqrt": _square_root,
    "half": lambda value: value / 2,
    "third": lambda value: value / 3,
    "quarter": lambda value: value / 4,
    "double": lambda value: value * 2,
}
