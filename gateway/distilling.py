"""Has a language model write guidelines from good answers, through the endpoint.

Source: Feng et al., "FusionFactory: Fusing LLM Capabilities with Multi-LLM Log Data", 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2

from eval.best_answers import GradedAnswer

_AT_A_TIME = 4
_LONGEST_SHOWN = 2000
_MAX_TOKENS = 160
_TIMEOUT = httpx2.Timeout(120.0, connect=5.0)
_ASKED = (
    "Below are a question and good answers to it. In one to five sentences, write a guideline for "
    "solving questions of this kind: what to look at first, which steps to take, which mistake to "
    "avoid. Do not give the answer to this question, and mention no name or figure of it.\n\n"
    "Question:\n{question}\n\n{answers}\n\nGuideline:"
)


def distilled(
    url: str,
    model: str,
    questions: Sequence[Sequence[GradedAnswer]],
    *,
    key: str | None = None,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> list[str | None]:
    """One guideline per question, None where the model gave none.

    Args:
        url: The gateway, without `/v1`.
        model: Whom to ask.
        questions: Good answers to each, the best first.
        key: API key.
        progress: Told what is done, and the part of it.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    written: list[str | None] = []
    with (
        httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=False) as client,
        ThreadPoolExecutor(_AT_A_TIME) as threads,
    ):
        for text in threads.map(lambda answers: _guideline(client, model, answers), questions):
            written.append(text)
            done = len(written)
            progress(f"{done} of {len(questions)} guidelines", done / len(questions))
    return written


def _guideline(client: httpx2.Client, model: str, answers: Iterable[GradedAnswer]) -> str | None:
    known = list(answers)
    shown = "\n\n".join(
        f"Answer {number}:\n{each.answer[:_LONGEST_SHOWN]}" for number, each in enumerate(known, 1)
    )
    asked = _ASKED.format(question=known[0].prompt[:_LONGEST_SHOWN], answers=shown)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": asked}],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "pointsman": {"tags": {"purpose": "distil"}},
    }
    try:
        answer = client.post("/v1/chat/completions", json=body)
    except httpx2.TransportError:
        return None
    if answer.status_code != 200:
        return None
    said = (answer.json()["choices"][0]["message"].get("content") or "").strip()
    return said or None
