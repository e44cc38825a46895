"""Collecting with progress bars, for the commands that collect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from eval.ray_crew import RayCrew
from gateway.cli.asking import client_of, told
from gateway.cli.progress import counting
from gateway.collection.collecting import Collected, Collecting, Collector, Pair, Prompt
from gateway.collection.spread import collect_over
from gateway.errors import ConfigError

_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Over:
    """Who asks instead of this process, and what reads anew which pairs are booked."""

    crew: RayCrew
    booked: Callable[[], frozenset[Pair]]


def expert_ids(url: str, key: str | None) -> list[str]:
    """The experts of a running gateway, sorted."""
    with client_of(url, key, _ANSWER_S) as client:
        models = told(client, "GET", "/v1/models")
    try:
        about = [model["pointsman"] for model in models["data"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"what answers at {url} is no gateway of Pointsman") from error
    return sorted({each["expert"] for each in about if each["kind"] == "expert"})


def gather(
    how: Collecting,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    *,
    known: frozenset[Pair] = frozenset(),
    over: Over | None = None,
) -> Collected:
    """Collect with one count per model; pairs of query and model in `known` are not asked.

    The workers of a cluster ask, where one is given.
    """
    with counting(models, len(prompts)) as step:
        if over is None:
            return anyio.run(Collector(how, on_answer=step, known=known).collect, prompts, models)
        return collect_over(
            over.crew,
            partial(Collector, how),
            prompts,
            models,
            at_once=how.concurrency,
            known=known,
            booked=over.booked,
            on_answer=step,
        )
