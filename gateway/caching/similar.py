"""Questions to vectors, and the guard: what must be equal whatever the vectors say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import orjson

from gateway.caching.entries import Question
from routers.base import Encoder

_LONGEST_TEXT = 8_000
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"\n]+\"|“[^”\n]+”|«[^»\n]+»")
_NUMBER = re.compile(r"[-+]?\.?\d[\d.,:/]*")
# All that is no word and no mark of a sentence: operators, units, brackets, emoji, vowel signs. An
# exclamation mark is one of them where it may be a factorial or a "not".
_SIGN = re.compile(r"[^\w\s.,;:!?'’\"“”„«»…]|(?<=\d)!|\b\w!|!(?=\w)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_CONTRACTED = re.compile(r"\b(what|who|where|when|how|that|it|there)'s\b", re.IGNORECASE)
_NEGATIONS = frozenset(
    {
        *("no", "not", "never", "none", "neither", "nor", "nothing", "nobody", "nowhere"),
        *("without", "cannot", "except", "unless", "excluding"),
        *("hardly", "barely", "scarcely", "rarely", "seldom"),
        *("aint", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt"),
        *("havent", "isnt", "mustnt", "neednt", "shouldnt", "wasnt", "werent", "wont", "wouldnt"),
        # Nobody says in which language the question is.
        *("nicht", "nichts", "nie", "niemals", "niemand", "ohne"),
        *("kein", "keine", "keinem", "keinen", "keiner", "keines"),
        *("ne", "pas", "ni", "sans", "jamais", "aucun", "aucune", "rien"),
        *("sin", "nunca", "jamás", "ningún", "ninguna", "ninguno", "nada", "tampoco"),
        *("não", "nao", "nem", "nenhum", "nenhuma", "sem"),
        *("non", "senza", "mai", "né", "nessun", "nessuna", "nessuno", "niente"),
        *("niet", "geen", "nooit", "zonder"),
        *("не", "нет", "ни", "без", "никогда"),
    }
)
_ARTICLES = frozenset({"a", "an", "the"})
_COURTESY = frozenset({"please", "kindly", "hi", "hello", "hey", "thanks", "thank"})
_FILLERS = _ARTICLES | _COURTESY
# Words that open a sentence or a request with a capital letter and name nothing.
_OPENERS = _FILLERS | {
    *("this", "that", "these", "those", "it", "its", "i", "i'm", "i've", "you", "your"),
    *("we", "our", "they", "he", "she", "his", "her", "my", "me", "there", "here"),
    *("what", "who", "whom", "whose", "when", "where", "which", "why", "how"),
    *("is", "are", "was", "were", "am", "be", "do", "does", "did", "has", "have", "had"),
    *("can", "could", "will", "would", "shall", "should", "may", "might", "must"),
    *("if", "then", "and", "or", "but", "so", "as", "at", "by", "for", "from", "in", "into"),
    *("of", "on", "onto", "to", "with", "about", "after", "before", "while"),
    *("tell", "give", "show", "write", "explain", "describe", "list", "name", "find", "make"),
    *("let", "let's", "define", "calculate", "compute", "compare", "translate"),
    *("summarize", "summarise"),
}


def question_of(text: str, surroundings: bytes, encoder: Encoder) -> Question | None:
    """What `text` is found by, or None if it can't be compared.

    The bucket holds all that must be equal: the surroundings, and in their order the numbers, the
    names (words with a capital letter), the negations, the signs, the code and what is quoted. The
    vector is over words and pairs of neighbours, so that "man bites dog" is not "dog bites man".
    """
    if len(text) > _LONGEST_TEXT:
        return None
    code = _CODE.findall(text)
    prose = _CODE.sub(" ", text)
    found = _WORD.findall(_CONTRACTED.sub(r"\1 is", prose.replace("’", "'")))
    words = [word for each in found if (word := each.lower()) not in _FILLERS]
    if not words:
        return None
    fixed = [
        code,
        _QUOTED.findall(prose),
        [number.rstrip(".,:/") for number in _NUMBER.findall(prose)],
        [name.lower() for name in found if _is_name(name)],
        _SIGN.findall(_QUOTED.sub(" ", prose)),
        [word for word in words if word in _NEGATIONS or word.endswith("n't")],
    ]
    bucket = hashlib.sha256(surroundings + orjson.dumps(fixed)).digest()
    vector_D = encoder.encode([" ".join(_terms(words))])[0]
    return Question(bucket, tuple(words), vector_D)


def _is_name(word: str) -> bool:
    return word != word.lower() and word.lower() not in _OPENERS


def _terms(words: list[str]) -> Iterable[str]:
    """Words and neighbours, each spelt so that an encoder takes it for one word."""
    plain = [re.sub(r"\W", "_", word) for word in words]
    yield from (f"w_{word}" for word in plain)
    for left, right in zip(["", *plain], [*plain, ""], strict=True):
        yield f"n_{left}_{right}"
