"""Exact match and token F1 as SQuAD scores them (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_form(text: str) -> str:
    """Lower case, without punctuation and articles, words one space apart."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if the answer is one of those accepted in SQuAD's form, else 0."""
    given = squad_form(answer)
    return float(any(given == squad_form(wanted) for wanted in accepted))


def token_f1(answer: str, accepted: Sequence[str]) -> float:
    """The best F1 over words with any accepted answer, in [0, 1]."""
    return max((_f1(squad_form(answer), squad_form(wanted)) for wanted in accepted), default=0.0)


def _f1(given: str, wanted: str) -> float:
    if given == wanted:
        return 1.0
    alone = {"yes", "no", "noanswer"}
    if given in alone or wanted in alone:
        return 0.0
    given_words, wanted_words = given.split(), wanted.split()
    same = sum((Counter(given_words) & Counter(wanted_words)).values())
    return 2 * same / (len(given_words) + len(wanted_words)) if same else 0.0
