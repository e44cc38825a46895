"""Tables and features made for one test."""

from __future__ import annotations

import numpy as np

from routers.records import FeatureBatch, Floats, OutcomeTable, Vectors

NAN = float("nan")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def unit(vectors_ND: Floats) -> Vectors:
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: Vectors = (vectors_ND / lengths_N1).astype(np.float32)
    return unit_ND


def features_of(vectors_ND: Vectors, prompt_tokens_N: Floats | None = None) -> FeatureBatch:
    count = len(vectors_ND)
    tokens_N = np.full(count, 10.0) if prompt_tokens_N is None else prompt_tokens_N
    return FeatureBatch(("",) * count, vectors_ND, tokens_N)


def table_of(
    score_NA: Floats,
    *,
    tasks: tuple[str | None, ...] | None = None,
    groups: tuple[str, ...] | None = None,
    output_NA: Floats | None = None,
    propensity_NA: Floats | None = None,
) -> OutcomeTable:
    ids = tuple(f"q{i:05d}" for i in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, NAN)
    return OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=tasks or (None,) * len(ids),
        groups=groups or ids,
        experts=tuple("abcdef"[: score_NA.shape[1]]),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA if output_NA is None else output_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA) if propensity_NA is None else propensity_NA,
    )


def two_tasks(count: int = 120) -> tuple[FeatureBatch, OutcomeTable]:
    """Expert a is right on one task, b on the other, c a little more than either on average."""
    first_N = np.arange(count) % 2 == 0
    noise_ND = rng().normal(0, 0.1, (count, 2))
    vectors_ND = unit(np.where(first_N[:, None], [1.0, 0.0], [0.0, 1.0]) + noise_ND)
    score_NA = np.column_stack([first_N, ~first_N, np.full(count, 0.6)]).astype(np.float64)
    return features_of(vectors_ND), table_of(
        score_NA, tasks=tuple("xy"[int(not first)] for first in first_N)
    )
