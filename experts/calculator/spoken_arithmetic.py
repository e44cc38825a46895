"""Rewrites arithmetic in English words as signs and digits: "seven times two squared" as 7*2^2."""

from __future__ import annotations

import re

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
          "eighteen", "nineteen"]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {
    **{word: value for value, word in enumerate(_UNITS + _TEENS)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
}
_UNIT = "|".join(_UNITS[1:])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{_UNIT}))?|{'|'.join(_TEENS)}|{'|'.join(_UNITS)})"
_BELOW_1000 = rf"(?:(?:{_UNIT}|a) hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})"
_SPELLED = re.compile(
    rf"\b(?:(?:{_BELOW_1000}|a) thousand(?:(?: and)? {_BELOW_1000})?|{_BELOW_1000})\b"
)

_REWRITES = tuple(
    (re.compile(pattern), signs)
    for pattern, signs in (
        (r"[×·∙✕✖]", "*"),
        (r"÷", "/"),
        (r"[\u2212\u2013]", "-"),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"√", " sqrt "),
        (r"\*\*", "^"),
        (r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", ""),
        (r"(?<=[1-9)]) ?x ?(?=[0-9(])|(?<=[0-9]) x (?=[0-9(])", "*"),
        (r"\bsum of (.+?) and (.+)", r"(\1)+(\2)"),
        (r"\bproduct of (.+?) and (.+)", r"(\1)*(\2)"),
        (r"\bdifference (?:between|of) (.+?) and (.+)", r"(\1)-(\2)"),
        (r"\bquotient of (.+?) and (.+)", r"(\1)/(\2)"),
        (r"\bremainder (?:when|of|if) (.+?)(?: is)? divided by (.+)", r"(\1) mod (\2)"),
        (r"\bsubtract (.+?) from (.+)", r"(\2)-(\1)"),
        (r"\badd (.+?) (?:and|to) (.+)", r"(\1)+(\2)"),
        (r"\bmultiply (.+?) (?:by|and|with) (.+)", r"(\1)*(\2)"),
        (r"\bdivide (.+?) by (.+)", r"(\1)/(\2)"),
        (r"\bsquare root of\b", " sqrt "),
        (r"\b(?:a |1 )?(half|third|quarter) of\b", r" \1 "),
        (r"\b(?:multiplied by|times)\b", "*"),
        (r"\bdivided by\b", "/"),
        (r"\bplus\b", "+"),
        (r"\bminus\b", "-"),
        (r"\bmodulo\b", "mod"),
        (r"\btwice\b", "double"),
        (r"\b(?:raised )?to the power(?: of)?\b", "^"),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"\b(?:per ?cent) of\b|% ?of\b", "% *"),
    )
)


def spelled_to_digits(text: str) -> str:
    """Rewrite spelled-out numbers below a million, in lower case, as digits."""
    return _SPELLED.sub(lambda match: str(_value(match[0])), text)


def to_signs(question: str) -> str:
    """Rewrite what is understood and leave everything else as it is.

    Args:
        question: Text in lower case.
    """
    text = spelled_to_digits(question)
    for pattern, signs in _REWRITES:
        text = pattern.sub(signs, text)
    return text


def _value(spelled: str) -> int:
    total, part = 0, 0
    for word in re.split(r"[ -]", spelled):
        if word == "thousand":
            total, part = part * 1000, 0
        elif word == "hundred":
            part *= 100
        elif word != "and":
            part += 1 if word == "a" else _VALUES[word]
    return total + part
