"""Collecting by a cluster's workers: whoever dies, no answer that is booked is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import anyio

from eval.ray_crew import Lost, RayCrew
from gateway.collection.collecting import Collected, Collector, Pair, Prompt, collected
from gateway.errors import ConfigError

_ROUNDS = 4

Piece = tuple[str, Sequence[Prompt]]


def collect_over(
    crew: RayCrew,
    make: Callable[[], Collector],
    prompts: Sequence[Prompt],
    models: Sequence[str],
    *,
    at_once: int,
    known: frozenset[Pair],
    booked: Callable[[], frozenset[Pair]],
    on_answer: Callable[[str], None],
) -> Collected:
    """Ask as `Collector.collect` does, a few prompts of one model per piece of work.

    Args:
        crew: Whose workers ask; each must reach the gateway.
        make: Makes a worker's collector.
        prompts: What to ask.
        models: Whom.
        at_once: Prompts that a worker sends at a time, >= 1.
        known: Pairs that are not to be asked again.
        booked: Reads anew which pairs are known, when workers were lost.
        on_answer: Told the model of each pair that is done with.

    Raises:
        ConfigError: Workers were lost, and what they asked can't be looked up.
    """
    wanted = {(prompt.query_id, model) for prompt in prompts for model in models}
    rows, failures, kept = list[dict[str, object]](), list[str](), 0

    def spare(there: frozenset[Pair]) -> None:
        nonlocal wanted, kept
        for _, model in wanted & there:
            kept += 1
            on_answer(model)
        wanted -= there

    spare(known)
    why = ""
    for _ in range(_ROUNDS):
        pieces = list(_pieces(prompts, models, wanted, at_once))
        for place, found in crew.once(_ask, make, pieces):
            if isinstance(found, Lost):
                why = found.why
                continue
            rows += found.rows
            failures += found.failures
            for prompt in pieces[place][1]:
                wanted.discard((prompt.query_id, pieces[place][0]))
                on_answer(pieces[place][0])
        if not wanted:
            break
        there = booked()
        if rows and not any((row["query_id"], row["model"]) in there for row in rows):
            raise ConfigError(
                f"{why}, and ledger.url does not name the ledger that {len(rows)} answers were "
                "booked in: without it whoever was asked would be asked again"
            )
        spare(there)
    failures += [f"{query_id} to {model}: {why}" for query_id, model in wanted]
    return collected(rows, failures, kept, prompts)


def _pieces(
    prompts: Sequence[Prompt], models: Sequence[str], wanted: set[Pair], at_once: int
) -> Iterator[Piece]:
    """Model by model within a stretch of prompts, so that all of them are kept busy."""
    for start in range(0, len(prompts), at_once):
        for model in models:
            few = [p for p in prompts[start : start + at_once] if (p.query_id, model) in wanted]
            if few:
                yield model, few


def _ask(make: Callable[[], Collector], piece: Piece) -> Collected:
    model, prompts = piece
    return anyio.run(make().collect, prompts, [model])
