"""What can be told of an answer without understanding it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import orjson

from routers.records import Floats

FACTS = (
    "log length", "log length of request", "one word", "refuses", "hedges", "has code", "parses",
    "is JSON", "digits", "ends a sentence", "asks back", "repeats itself", "of the request",
)  # fmt: skip
_REFUSES = re.compile(
    r"\b(sorry|cannot|can't|unable|i don't|as an ai|not able|no (?:such|suitable))\b", re.IGNORECASE
)
_HEDGES = re.compile(
    r"\b(maybe|perhaps|might|probably|not sure|unclear|it depends|however|assum\w+)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*?)```", re.DOTALL)
_CODE = re.compile(r"^\s*(def|class|import|from|return|#include|function|const|public)\b", re.M)
_WORD = re.compile(r"\w+")
_LONGEST_READ = 16_000


def facts(prompts: Sequence[str], answers: Sequence[str]) -> Floats:
    """One row of numbers per answer, columns as `FACTS`, all of them finite; shape (N, F)."""
    rows = [_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(FACTS))


def _of(prompt: str, answer: str) -> list[float]:
    prompt, answer = prompt[-_LONGEST_READ:], answer[:_LONGEST_READ]
    words = [word.casefold() for word in _WORD.findall(answer)]
    asked = {word.casefold() for word in _WORD.findall(prompt)}
    count = max(len(words), 1)
    stripped = answer.strip()
    code = "\n".join(_FENCE.findall(answer)) or (answer if _CODE.search(answer) else "")
    return [
        np.log1p(len(answer)),
        np.log1p(len(prompt)),
        float(len(words) <= 1),
        float(bool(_REFUSES.search(answer))),
        float(len(_HEDGES.findall(answer))) / count,
        float(bool(code)),
        float(bool(code) and _compiles(code)),
        float(_is_json(stripped)),
        sum(letter.isdigit() for letter in answer) / max(len(answer), 1),
        float(stripped.endswith((".", "!", ")", "`", "}", "]", ";"))),
        float(stripped.endswith("?")),
        1 - len(set(words)) / count,
        sum(word in asked for word in words) / count,
    ]


def _compiles(code: str) -> bool:
    """Whether it is Python; it is parsed, never run."""
    try:
        compile(code, "answer", "exec", flags=0x400, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
