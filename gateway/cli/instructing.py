"""Has a language model say what requests ask for, once per template, through the endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2

from routers.instructions import template_key

_AT_A_TIME = 4
_MOST_TEMPLATES = 500
_LONGEST_SHOWN = 2000
_LONGEST = 300
_MAX_TOKENS = 48
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_ASKED = (
    "In one short sentence, say what kind of task the following request is, as an instruction to "
    "the one who is to do it. Leave out what the task is about.\n\nRequest:\n{text}\n\nInstruction:"
)


def written_instructions(
    url: str,
    model: str,
    texts: Sequence[str],
    *,
    key: str | None = None,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> dict[str, str]:
    """Template to instruction, for the 500 most frequent templates of `texts`.

    A template that gets no answer is left out: of its requests the instruction is read off the
    text.

    Args:
        url: The gateway, without `/v1`.
        model: Whom to ask.
        texts: Requests.
        key: API key.
        progress: Told what is done, and the part of it.
    """
    keys = [template_key(text) for text in texts]
    example = dict(zip(reversed(keys), reversed(texts), strict=True))
    frequent = [template for template, _ in Counter(keys).most_common(_MOST_TEMPLATES)]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    written: dict[str, str] = {}
    with (
        httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=False) as client,
        ThreadPoolExecutor(_AT_A_TIME) as threads,
    ):
        answers = threads.map(lambda one: _instruction(client, model, example[one]), frequent)
        for done, (template, answer) in enumerate(zip(frequent, answers, strict=True), start=1):
            if answer:
                written[template] = answer
            progress(f"{done} of {len(frequent)} templates described", done / len(frequent))
    return written


def _instruction(client: httpx2.Client, model: str, text: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _ASKED.format(text=text[:_LONGEST_SHOWN])}],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
    }
    try:
        answer = client.post("/v1/chat/completions", json=body)
    except httpx2.TransportError:
        return ""
    if answer.status_code != 200:
        return ""
    said = answer.json()["choices"][0]["message"].get("content") or ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines else ""
