"""Collecting by workers that die: nobody whose answer is booked is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from eval.ray_crew import Lost, RayCrew
from gateway.collection.collecting import Collected, Pair, Prompt
from gateway.collection.spread import collect_over
from gateway.errors import ConfigError

PROMPTS = [Prompt(f"q{n}", f"What is {n}?", None, None, None) for n in range(5)]
MODELS = ["a", "b"]
PAIRS = {(prompt.query_id, model) for prompt in PROMPTS for model in MODELS}


class Endpoint:
    """Books whoever asks; as a collector, it asks itself."""

    def __init__(self) -> None:
        self.asked = Counter[Pair]()

    async def collect(self, prompts: Sequence[Prompt], models: Sequence[str]) -> Collected:
        pairs = [(prompt.query_id, model) for prompt in prompts for model in models]
        self.asked.update(pairs)
        return Collected(tuple({"query_id": q, "model": m, "score": 1.0} for q, m in pairs), ())

    def booked(self) -> frozenset[Pair]:
        return frozenset(self.asked)


class DyingCrew(RayCrew):
    """Loses pieces: the first after its work, the second before, `later` ones in every round."""

    def __init__(self, later: int = 99) -> None:
        super().__init__("nowhere:1")
        self._later = later

    def once(
        self, work: Callable[[Any, Any], Any], shared: Any, pieces: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        whole = len(pieces) > 4
        for place, piece in reversed(list(enumerate(pieces))):
            dies = (whole and place < 2) or place >= self._later
            found = None if dies and place else work(shared, piece)
            yield place, Lost("it died") if dies else found


def _collect(endpoint: Endpoint, crew: RayCrew, **given: Any) -> tuple[Collected, Counter[str]]:
    steps = Counter[str]()
    told = {"known": frozenset(), "booked": endpoint.booked, "at_once": 2, **given}
    found = collect_over(
        crew,
        lambda: endpoint,  # type: ignore[arg-type, return-value]
        PROMPTS,
        MODELS,
        on_answer=lambda model: steps.update([model]),
        **told,
    )
    return found, steps


def test_what_was_lost_is_asked_again_unless_it_is_booked() -> None:
    endpoint = Endpoint()
    found, steps = _collect(endpoint, DyingCrew())
    assert endpoint.asked == Counter(PAIRS)
    assert found.kept == 2
    assert len(found.rows) == 8
    assert not found.failures
    assert steps == {"a": 5, "b": 5}
    assert [row["query_id"] for row in found.rows] == sorted(row["query_id"] for row in found.rows)


def test_what_is_known_is_not_asked() -> None:
    endpoint = Endpoint()
    found, steps = _collect(endpoint, DyingCrew(), known=frozenset({("q0", "a"), ("q9", "a")}))
    assert ("q0", "a") not in endpoint.asked
    assert steps == {"a": 5, "b": 5}
    assert found.kept + len(found.rows) == len(PAIRS)


def test_whoever_dies_in_every_round_is_a_failure() -> None:
    endpoint = Endpoint()
    found, _ = _collect(endpoint, DyingCrew(later=0), booked=frozenset)
    assert not found.rows
    assert sorted(found.failures)[0] == "q0 to a: it died"
    assert len(found.failures) == len(PAIRS)


def test_a_ledger_of_another_gateway_is_told_before_anybody_is_asked_twice() -> None:
    endpoint = Endpoint()
    with pytest.raises(ConfigError, match=r"it died, and ledger\.url does not name the ledger"):
        _collect(endpoint, DyingCrew(), booked=lambda: frozenset({("q0", "other")}))
    assert max(endpoint.asked.values()) == 1
