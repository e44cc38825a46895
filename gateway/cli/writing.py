"""Has a language model write what routers and compositions read, through the endpoint.

Instructions say what a request asks for, once per template; guidelines say how questions of a kind
are solved, and come from good answers (Feng et al., "FusionFactory: Fusing LLM Capabilities with
Multi-LLM Log Data", 2025).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2

from eval.best_answers import GradedAnswer
from gateway.cli.asking import client_of
from routers.encoders.instructions import template_key

Progress = Callable[[str, float], None]

_AT_A_TIME = 4
_TIMEOUT_S = 120.0
_LONGEST_SHOWN = 2000
_MOST_TEMPLATES = 500
_LONGEST_INSTRUCTION = 300
_INSTRUCTION_TOKENS, _GUIDELINE_TOKENS = 48, 160
_INSTRUCTION = (
    "In one short sentence, say what kind of task the following request is, as an instruction to "
    "the one who is to do it. Leave out what the task is about.\n\nRequest:\n{text}\n\nInstruction:"
)
_GUIDELINE = (
    "Below are a question and good answers to it. In one to five sentences, write a guideline for "
    "solving questions of this kind: what to look at first, which steps to take, which mistake to "
    "avoid. Do not give the answer to this question, and mention no name or figure of it.\n\n"
    "Question:\n{question}\n\n{answers}\n\nGuideline:"
)


@dataclass(frozen=True, slots=True)
class WritingModel:
    """A model that writes, four texts at a time.

    Attributes:
        url: The gateway, without `/v1`.
        model: Whom to ask.
        key: API key.
        progress: Told what is done, and the part of it.
    """

    url: str
    model: str
    key: str | None = None
    progress: Progress = lambda what, done: None

    def instructions(self, texts: Sequence[str]) -> dict[str, str]:
        """Template to instruction, for the 500 most frequent templates of these requests.

        A template that gets no answer is left out: of its requests the instruction is read off the
        text.
        """
        keys = [template_key(text) for text in texts]
        example = dict(zip(reversed(keys), reversed(texts), strict=True))
        frequent = [template for template, _ in Counter(keys).most_common(_MOST_TEMPLATES)]
        asked = [_INSTRUCTION.format(text=example[each][:_LONGEST_SHOWN]) for each in frequent]
        written = self._written(asked, _INSTRUCTION_TOKENS, "instruct")
        lines = ((text.splitlines()[0].strip() if text else "") for text in written)
        pairs = zip(frequent, lines, strict=True)
        return {template: line[:_LONGEST_INSTRUCTION] for template, line in pairs if line}

    def guidelines(self, questions: Sequence[Sequence[GradedAnswer]]) -> list[str | None]:
        """One guideline per question, None where the model gave none.

        Args:
            questions: Good answers to each, the best first.
        """
        asked = [_guideline(answers) for answers in questions]
        return list(self._written(asked, _GUIDELINE_TOKENS, "distil"))

    def _written(self, asked: Sequence[str], max_tokens: int, purpose: str) -> Iterator[str | None]:
        with (
            client_of(self.url, self.key, _TIMEOUT_S) as client,
            ThreadPoolExecutor(_AT_A_TIME) as threads,
        ):
            bodies = (self._body(text, max_tokens, purpose) for text in asked)
            for done, text in enumerate(threads.map(lambda b: _text(client, b), bodies), start=1):
                yield text
                self.progress(f"{done} of {len(asked)} texts written", done / len(asked))

    def _body(self, text: str, max_tokens: int, purpose: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "pointsman": {"tags": {"purpose": purpose}},
        }


def _guideline(answers: Iterable[GradedAnswer]) -> str:
    known = list(answers)
    shown = "\n\n".join(
        f"Answer {number}:\n{each.answer[:_LONGEST_SHOWN]}" for number, each in enumerate(known, 1)
    )
    return _GUIDELINE.format(question=known[0].prompt[:_LONGEST_SHOWN], answers=shown)


def _text(client: httpx2.Client, body: dict[str, Any]) -> str | None:
    """What the model said; None if it failed or said nothing."""
    try:
        answer = client.post("/v1/chat/completions", json=body)
    except httpx2.TransportError:
        return None
    if answer.status_code != 200:
        return None
    said = (answer.json()["choices"][0]["message"].get("content") or "").strip()
    return said or None
