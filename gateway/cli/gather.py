"""Collecting with progress bars, for the commands that collect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from gateway.cli.asking import client_of, told
from gateway.cli.progress import counting
from gateway.collecting import Collected, Collector, Prompt
from gateway.errors import ConfigError

_ANSWER_S = 10.0


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
    url: str,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    *,
    key: str | None = None,
    max_tokens: int,
    concurrency: int,
    tags: Mapping[str, str],
    known: frozenset[tuple[str, str]] = frozenset(),
    logprobs: bool = False,
) -> Collected:
    """Collect with one count per model; pairs of query and model in `known` are not asked."""
    with counting(models, len(prompts)) as step:
        collector = Collector(
            url,
            key=key,
            max_tokens=max_tokens,
            concurrency=concurrency,
            tags=tags,
            on_answer=step,
            known=known,
            logprobs=logprobs,
        )
        return anyio.run(collector.collect, prompts, models)
