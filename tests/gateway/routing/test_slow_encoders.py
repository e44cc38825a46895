"""An encoder that takes milliseconds for a text never keeps the event loop from other requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from gateway.routing import batching
from gateway.routing.router_store import RouterStore
from routers.encoders.minilm import MiniLmEncoder
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable, Vectors

Serve = Callable[..., Any]
ANIMALS = ("The cat sleeps.", "Dogs bark at night.", "A horse needs hay.", "Feed the rabbit.")
CONTRACTS = ("The clause is void.", "Sue them in court.", "Sign the deed.", "A lease may end.")


def animals_or_contracts() -> OutcomeTable:
    """Questions on either, each answered well by one of two experts."""
    prompts = [f"{text} {i}" for text in (*ANIMALS, *CONTRACTS) for i in range(10)]
    of_animals_N = np.arange(len(prompts)) < len(prompts) // 2
    score_NA = np.stack([~of_animals_N, of_animals_N], axis=1).astype(np.float64)
    unknown_NA = np.full_like(score_NA, np.nan)
    ids = tuple(f"q{row}" for row in range(len(prompts)))
    return OutcomeTable(
        query_ids=ids,
        prompts=tuple(prompts),
        tasks=(None,) * len(ids),
        groups=ids,
        experts=("lawyer", "vet"),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )


def test_minilm_decides_in_a_thread_however_quick_it_was_before(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RouterStore(tmp_path / "routers")
    router = fit_router("default", "knn", animals_or_contracts(), seed=0, encoder="minilm")
    store.promote("default", store.publish(router))
    threads: list[str] = []
    encode = MiniLmEncoder.encode

    def watched(self: MiniLmEncoder, texts: Sequence[str]) -> Vectors:
        threads.append(threading.current_thread().name)
        return encode(self, texts)

    monkeypatch.setattr(MiniLmEncoder, "encode", watched)
    # Whatever is measured, it counts as quick.
    monkeypatch.setattr(batching, "_QUICK_S", 60.0)
    card = ExpertCard("vet", prices=Prices(1.0, 2.0))
    served = serve(
        {
            expert: ScriptedExpert(replace(card, expert_id=expert), *[says(expert)] * 8)
            for expert in ("vet", "lawyer")
        },
        routing={"epsilon": 0.0, "decide_s": 60.0},
    )
    asked = ["A", "Is a promise binding?", "My puppy limps."] * 2
    answers = [served.ask("auto:best", text) for text in asked]
    assert [answer.headers["x-pointsman-expert"] for answer in answers[1:3]] == ["lawyer", "vet"]
    assert len(threads) == len(asked)
    assert all(name.startswith("deciding") for name in threads), threads
    assert served.record(answers[1])["flags"] == []
