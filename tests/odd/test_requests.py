"""Whatever JSON a client sends: an answer, or one sentence that says which field is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import httpx2
import numpy as np
import pytest

from tests.odd.answers import SHAPES
from tests.odd.clients import heard
from tests.odd.nodes import changes
from tests.odd.requests import BODIES, MODELS
from tests.odd.rig import PATHS, Faults, Odd, at_once, bench, nothing_left

WAYS = pytest.mark.parametrize("way", ["fast", "plain"])
FEW, MANY = 700, 4_000
FIELDLESS = ("the body is n", "the body must be a JSON object", "no expert can serve")
"""Refusals of the whole."""


@dataclass(frozen=True, slots=True)
class Request:
    """One odd request."""

    front: str
    name: str
    text: str


@WAYS
def test_odd_requests_are_answered_or_refused_in_words(way: str, tmp_path: Path) -> None:
    judged(way, FEW, tmp_path)


@pytest.mark.slow
@WAYS
def test_many_odd_requests_are(way: str, tmp_path: Path) -> None:
    judged(way, MANY, tmp_path)


def judged(way: str, most: int, directory: Path) -> None:
    every = list(odd_requests())
    chosen = np.random.default_rng(most).choice(len(every), most, replace=False)
    requests = [every[place] for place in chosen]
    faults: Faults = {}
    # Every prompt asks for the only case; who is asked speaks as they do.
    only = Odd("sound", SHAPES["text"], (), "chat", stream=False, auto=False)
    with bench([only], directory, fast=way == "fast") as found:
        anyio.run(at_once, found.url, [partial(ask, each, faults) for each in requests])
        assert faults == {}
        nothing_left(found)


def odd_requests() -> Iterator[Request]:
    """Each sound request with one oddity."""
    for front, body in BODIES.items():
        for model in MODELS[front]:
            for stream in (False, True) if "stream" in body else (False,):
                asked = {**body, "model": model, **({"stream": stream} if "stream" in body else {})}
                for change in changes(asked):
                    how = "stream" if stream else "whole"
                    yield Request(front, f"{front} {model} {how}: {change.name}", change.text)


async def ask(request: Request, faults: Faults, client: httpx2.AsyncClient) -> None:
    content, kind = request.text.encode(), {"content-type": "application/json"}
    try:
        answer = await client.post(PATHS[request.front], content=content, headers=kind)
        judge(request, answer)
    except (httpx2.HTTPError, AssertionError, LookupError, TypeError, ValueError) as error:
        faults.setdefault(f"{type(error).__name__}: {error}", []).append(request.name)


def judge(request: Request, answer: httpx2.Response) -> None:
    """It is answered, or refused with the field's name."""
    front, status = request.front, answer.status_code
    if status == 200:
        stream = answer.headers["content-type"].startswith("text/event-stream")
        assert heard(front, status, answer.content, stream=stream).error is None
        return
    assert 400 <= status < 500, answer.content
    error = heard(front, status, answer.content, stream=False).error
    assert error is not None
    assert error["param"] or error["message"].startswith(FIELDLESS), error
    assert "object has no attribute" not in error["message"]
    assert "\n" not in error["message"]
    json.dumps(error)
