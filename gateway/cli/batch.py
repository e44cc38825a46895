"""A file of prompts shared out among experts that can take only so many each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from eval.replay.replay import candidates_per_query, cards_of
from eval.report.pages import write_whole
from experts.cards import Prices
from gateway.collection.collecting import Prompt, read_prompts
from gateway.errors import ConfigError
from gateway.pool.pool import prices_of
from gateway.routing.router_store import RouterStore
from gateway.settings.cards import CalledSettings
from gateway.settings.load import load_settings
from gateway.settings.root import Settings
from routers.allocation.assignment import Assignment, assign
from routers.records import Preference
from routers.router import Router


def shared_out(
    prompts: Path,
    capacity: Mapping[str, int],
    router: str,
    config: Path | None,
    out_file: Path,
    cost_weight: float,
) -> dict[str, Any]:
    """Write every prompt with its expert, and say how it was shared out.

    Args:
        prompts: As `collect` reads them.
        capacity: Expert to the most requests that it takes.
        router: Name of a promoted router that knows these experts.
        config: Where routers and prices are.
        out_file: JSONL of `query_id`, `prompt`, `expert`.
        cost_weight: Quality points worth giving up for the price of a typical request to the
            dearest expert.

    Raises:
        ConfigError: A file, the router, an expert or the capacities are at fault.
    """
    asked = read_prompts(prompts)
    if sum(capacity.values()) < len(asked):
        raise ConfigError(
            f"--capacity adds up to {sum(capacity.values())}, '{prompts}' holds {len(asked)}"
        )
    settings = load_settings(config)
    learned = _promoted(settings, router)
    experts = sorted(capacity)
    utility_NA, quality_NA = _worth(learned, asked, _prices(settings, experts), cost_weight)
    found = assign(utility_NA, np.array([capacity[name] for name in experts]))
    names = [experts[column] for column in found.chosen_N]
    lines = b"".join(
        orjson.dumps(
            {"query_id": one.query_id, "prompt": one.text, "expert": name},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for one, name in zip(asked, names, strict=True)
    )
    write_whole(out_file, lambda path: path.write_bytes(lines))
    quality = float(quality_NA[np.arange(len(asked)), found.chosen_N].mean())
    return {
        "requests": len(asked),
        "quality": quality,
        "experts": _experts(experts, capacity, found),
    }


def _promoted(settings: Settings, name: str) -> Router:
    store = RouterStore(settings.data_dir / "routers")
    promotion = store.promoted(name)
    if promotion is None:
        raise ConfigError(f"router {name!r} has no promoted version; `pointsman train` makes one")
    return store.load(name, promotion.version)


def _prices(settings: Settings, experts: list[str]) -> dict[str, Prices | None]:
    at = datetime.now(UTC)
    called = [one for one in settings.experts if isinstance(one, CalledSettings)]
    listed = {one.id: prices_of(one, at) for one in called}
    return {name: listed.get(name) for name in experts}


def _worth(
    router: Router,
    asked: tuple[Prompt, ...],
    prices: Mapping[str, Prices | None],
    cost_weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    estimates = router.estimate([one.text for one in asked])
    for name in prices:
        if name not in estimates.experts:
            known = ", ".join(estimates.experts)
            raise ConfigError(f"--capacity names {name!r}, which the router was not trained on; "
                              f"it knows {known}")  # fmt: skip
    texts = [one.text for one in asked]
    queries = candidates_per_query(router, texts, estimates, cards_of(prices))
    weighed = [
        router.policy.distribution(query, Preference(cost_weight=cost_weight)) for query in queries
    ]
    utility_NA = np.stack([utility_A for _, utility_A in weighed])
    return utility_NA, np.stack([query.quality_A for query in queries])


def _experts(
    experts: list[str], capacity: Mapping[str, int], found: Assignment
) -> dict[str, dict[str, Any]]:
    counts = np.bincount(found.chosen_N, minlength=len(experts))
    return {
        name: {
            "requests": int(counts[column]),
            "of": capacity[name],
            "price": float(found.prices_A[column]),
        }
        for column, name in enumerate(experts)
    }
