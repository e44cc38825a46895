"""Whatever JSON a provider sends: its answer or one error, never silence or a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import httpx2
import numpy as np
import pytest

from tests.odd.answers import ARGUMENTS, NAME
from tests.odd.cases import odd_answers
from tests.odd.clients import Heard, heard
from tests.odd.nodes import written
from tests.odd.plainly import plain_text
from tests.odd.rig import Faults, Odd, asked_for, at_once, bench, nothing_left

STATUSES = frozenset({200, 400, 429, 502, 503, 504})
"""Of answers to sound requests: see `docs/execution.md`."""
WAYS = pytest.mark.parametrize("way", ["fast", "plain"])
FEW, MANY = 1_400, 8_000


@WAYS
def test_odd_answers_are_told_rightly_or_as_an_error(way: str, tmp_path: Path) -> None:
    judged(way, FEW, tmp_path)


@pytest.mark.slow
@WAYS
def test_many_odd_answers_are(way: str, tmp_path: Path) -> None:
    judged(way, MANY, tmp_path)


def judged(way: str, most: int, directory: Path) -> None:
    fast = way == "fast"
    every = [case for case in odd_answers() if not fast or case.is_fast]
    # The same ones each time.
    chosen = np.random.default_rng(most).choice(len(every), most, replace=False)
    cases = [every[place] for place in chosen]
    faults: Faults = {}
    with bench(cases, directory, fast=fast) as found:
        works = [partial(ask, number, case, faults) for number, case in enumerate(cases)]
        anyio.run(at_once, found.url, works)
        assert faults == {}
        nothing_left(found)


async def ask(number: int, case: Odd, faults: Faults, client: httpx2.AsyncClient) -> None:
    path, body = asked_for(number, case)
    try:
        answer = await client.post(path, json=body)
        judge(case, answer.status_code, answer.content)
    except (httpx2.HTTPError, AssertionError, LookupError, TypeError, ValueError) as error:
        faults.setdefault(f"{type(error).__name__}: {error}", []).append(str(case))


def judge(case: Odd, status: int, content: bytes) -> None:
    """Hold an answer against what its provider said."""
    assert status in STATUSES, content
    answer = heard(case.front, status, content, stream=case.stream)
    if answer.error is None:
        judge_answer(case, answer)
    else:
        # Signed thoughts can't be compared with another expert's, nor vectors with another's, nor
        # what stands in the place of the piece that names a call.
        alone = ("thoughtful message", "vectors")
        unlike = case.shape.name == "calls" and "/delta=" in case.name
        assert not case.auto or case.shape.name in alone or unlike, answer.error


def judge_answer(case: Odd, answer: Heard) -> None:
    assert answer.ended
    assert answer.tokens
    if case.shape.api == "embeddings":
        assert len(answer.vectors) == 2
        return
    wire, sound = case.shape.wire, sound_texts(case)
    right, odd = plain_text(sound, wire=wire), plain_text(case.texts, wire=wire)
    if "refusal=" in case.name and answer.text.startswith(right):
        # Some fronts say a refusal as a text.
        return
    assert answer.text in (right, odd), f"{answer.text!r} is neither {right!r} nor {odd!r}"
    if case.is_aside and "call" in case.shape.name:
        ((name, arguments),) = answer.calls.values()
        assert (name, json.loads(arguments)) == (NAME, json.loads(ARGUMENTS))


def sound_texts(case: Odd) -> Sequence[str]:
    shape = case.shape
    return [written(said) for said in (shape.stream if case.stream else (shape.whole,))]
