"""Collecting with progress bars, for the commands that collect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import httpx2

from gateway.cli.progress import counting
from gateway.collecting import Collected, Collector, Prompt
from gateway.errors import ConfigError


def expert_ids(url: str, key: str | None) -> list[str]:
    """The experts of a running gateway, sorted."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = httpx2.get(f"{url}/v1/models", headers=headers, timeout=10.0, trust_env=False)
    try:
        said = answer.json()
        why = None if answer.is_success else said["error"]["message"]
        about = [] if why else [model["pointsman"] for model in said["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"what answers at {url} is no gateway of Pointsman") from error
    if why:
        raise ConfigError(f"{url} does not list its models: {why}")
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
