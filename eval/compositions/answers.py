"""Whether two recorded answers say the same, whatever words stand around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from routers.records import Floats

_CHOICE = re.compile(
    r"^\W*(?:(?i:(?:the )?(?:correct )?answer(?: is)?)\W*)?\(?([A-Ja-j])\b(?![’'])"
)
_OPTION = re.compile(r"(?m)^\W?[A-J]\W")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*?)```", re.DOTALL)
_CALL = re.compile(r"[\w.]+\s*\(.*=|[\"'\\]\s*:\s*", re.DOTALL)
_WORD = re.compile(r"-?\d+(?:\.\d+)?|\w+")
_SCAFFOLD = frozenset({
    "name", "arguments", "parameters", "function", "functions", "tool_call", "tool_calls", "type",
    "call", "tools", "n", "im_start", "print", "json", "python",
})  # fmt: skip
_SHORT = 40


def answer_key(prompt: str, answer: str, *, calls: bool = False) -> str:
    """Equal for answers that say the same.

    By what the prompt asks for: the letter of a choice; the names and values of a call of a tool,
    whatever its syntax; code without white space; the last number; else the words.

    Args:
        prompt: What was asked.
        answer: What was answered.
        calls: Whether calls of tools are asked for.
    """
    text = answer.strip()
    if calls:
        return _call_key(text)
    if _OPTION.search(prompt):
        found = _CHOICE.match(text)
        if found:
            return f"choice {found[1].upper()}"
    fenced = "\n".join(_FENCE.findall(text))
    if fenced:
        return "code " + "".join(fenced.split())
    numbers = _NUMBER.findall(text.replace("$", ""))
    if numbers and len(text) > 2:
        return f"number {float(numbers[-1].replace(',', '')):.6g}"
    return "words " + " ".join(_WORD.findall(text.casefold()))[: 10 * _SHORT]


def same_answers(
    prompts: Sequence[str],
    answers_NA: Sequence[Sequence[str | None]],
    key: Callable[[str, str], Hashable] = answer_key,
) -> Floats:
    """1 where two experts' answers say the same, 0 where not or where one is missing.

    Args:
        prompts: What was asked.
        answers_NA: What was answered.
        key: Of a prompt and an answer; equal for answers that say the same.

    Returns:
        Shape (N, A, A), 1 on the diagonal.
    """
    count = len(answers_NA[0]) if len(answers_NA) else 0
    same_NAA = np.zeros((len(prompts), count, count))
    for row, (prompt, answers) in enumerate(zip(prompts, answers_NA, strict=True)):
        known = np.array([answer is not None for answer in answers])
        keys = [None if answer is None else key(prompt, answer) for answer in answers]
        names = np.array(keys, dtype=object)
        same_NAA[row] = (names[:, None] == names[None, :]) & known[:, None] & known[None, :]
    same_NAA[:, np.arange(count), np.arange(count)] = 1.0
    return same_NAA


def _call_key(text: str) -> str:
    if not _CALL.search(text):
        return "no call"
    plain = re.sub(r"(?<=[A-Za-z_])\.(?=[A-Za-z_])", "_", text.replace("\\", " "))
    words = [word.casefold() for word in _WORD.findall(plain)]
    return "call " + " ".join(sorted(word for word in words if word not in _SCAFFOLD))
