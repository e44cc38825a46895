"""From a table of outcomes to a router."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from threadpoolctl import threadpool_limits

from routers.candidates import Typical
from routers.encoders.vector_store import VectorStore
from routers.errors import TableError
from routers.features import Featurizer
from routers.fitting.recipe import Recipe
from routers.fitting.rehearsal import rehearse
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.registry import make_encoder
from routers.router import UNTRAINED_VERSION, Router
from routers.storage.artifacts import with_content_version


def fit_router(
    name: str,
    estimator: str,
    table: OutcomeTable,
    *,
    seed: int,
    encoder: str | None = None,
    epsilon: float = 0.0,
    calibrate: bool = True,
    descriptions: Mapping[str, str] | None = None,
    instructions: Mapping[str, str] | None = None,
    encoded: Encoded | None = None,
    store: VectorStore | None = None,
) -> Router:
    """Train a router. The same table and seed give the same version, in whatever row order.

    Args:
        name: What the config and the ledger will call it.
        estimator: What `Recipe.read` understands: `knn`, `knn+static`, `guarded:knn`.
        table: Outcomes to learn from.
        seed: Source of all randomness.
        encoder: A name that `make_encoder` knows; None: as `estimator` says, or the default one.
        epsilon: Share of the traffic that explores, in [0, 1].
        calibrate: Whether predictions are corrected by isotonic regression, out of fold; those of
            an estimator that learns on never are.
        descriptions: Expert id to what its card says it is good at; only `instruction` asks.
        instructions: What a language model wrote of templates of requests, by
            `routers.encoders.instructions.template_key`; likewise.
        encoded: What `encode_table` makes of this encoder, table and seed, where it is at hand.
        store: Where the vectors of a slow encoder are kept.

    Raises:
        TableError: Fewer than two experts were observed, or the estimator lacks something.
        RoutingError: Unknown estimator or encoder.
    """
    recipe = Recipe.read(estimator)
    encoder = encoder or recipe.encoder
    unfitted = recipe.unfitted(
        calibrate=calibrate, descriptions=descriptions, instructions=instructions
    )
    _check_experts(table)
    table = by_query_id(table)
    # How sums are split over threads changes their last digits, and with them the version.
    with threadpool_limits(limits=1):
        encoded = encoded or encode_table(encoder, table, seed, store)
        _, estimator_rng, rehearsal_rng = _rngs(seed)
        fitted = unfitted.fit(encoded.features, table, estimator_rng)
        rehearsal = rehearse(unfitted, fitted, encoded.features, table, rehearsal_rng)
    typical = _typical(encoded.features, table)
    router = Router(
        name=name,
        version=UNTRAINED_VERSION,
        featurizer=encoded.featurizer,
        estimator=fitted,
        policy=GreedyUtilityPolicy(),
        epsilon=epsilon,
        typical_prompt_tokens=typical.prompt_tokens,
        typical_output_tokens=typical.output_tokens,
        typical_latency_s=typical.latency_s,
        rehearsal=rehearsal,
        metadata={
            "estimator": recipe.estimator,
            "wrappers": list(recipe.wrappers),
            "calibrated": calibrate and not recipe.learns_on,
            "encoder": encoder,
            "seed": seed,
            "rows": len(table),
            "scores": int((~np.isnan(table.score_NA)).sum()),
            "experts": list(table.experts),
            "data_sha256": data_hash(table),
            "code_version": _code_version(),
        },
    )
    return with_content_version(router)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A table as an encoder sees it; several routers may learn from one.

    Attributes:
        featurizer: Fitted.
        features: Of the table's rows, sorted by query id.
    """

    featurizer: Featurizer
    features: FeatureBatch


def encode_table(
    encoder: str, table: OutcomeTable, seed: int, store: VectorStore | None = None
) -> Encoded:
    """Fit an encoder to the prompts of a table and encode them.

    Args:
        encoder: A name that `make_encoder` knows.
        table: Whose prompts.
        seed: Source of all randomness, the router's.
        store: Where the vectors of a slow encoder are kept.

    Raises:
        RoutingError: Unknown encoder, or it lacks an extra.
    """
    prompts = by_query_id(table).prompts
    with threadpool_limits(limits=1):
        featurizer = Featurizer(make_encoder(encoder), store).fit(prompts, _rngs(seed)[0])
        return Encoded(featurizer, featurizer.transform(prompts))


def by_query_id(table: OutcomeTable) -> OutcomeTable:
    """The same rows in the order that routers learn from them."""
    return table.take(np.argsort(np.array(table.query_ids)))


def data_hash(table: OutcomeTable) -> str:
    """SHA-256 of everything in `table`, the same in whatever order its rows are."""
    table = by_query_id(table)
    digest = hashlib.sha256()
    for words in (table.query_ids, table.prompts, table.tasks, table.groups, table.experts):
        digest.update("\x1f".join("\x00" if word is None else word for word in words).encode())
        digest.update(b"\x1e")
    for values_NA in (
        table.score_NA,
        table.prompt_tokens_NA,
        table.output_tokens_NA,
        table.cost_usd_NA,
        table.latency_s_NA,
        table.propensity_NA,
    ):
        # Every NaN has the same bits here, wherever it came from.
        digest.update(np.where(np.isnan(values_NA), np.nan, values_NA).astype("<f8").tobytes())
    return digest.hexdigest()


def _check_experts(table: OutcomeTable) -> None:
    seen_A = (~np.isnan(table.score_NA)).any(axis=0)
    if not seen_A.any():
        raise TableError("no score is observed in this table, so there is nothing to learn")
    if seen_A.sum() < 2:
        only = table.experts[int(np.argmax(seen_A))]
        raise TableError(
            f"only expert {only!r} has observed scores; a router needs at least two to choose from"
        )


def _rngs(seed: int) -> list[np.random.Generator]:
    """For the encoder, for the estimator, and for what is kept of queries that were left out."""
    return np.random.default_rng(seed).spawn(3)


def _typical(features: FeatureBatch, table: OutcomeTable) -> Typical:
    prompt_tokens = float(np.median(features.prompt_tokens_N))
    output_tokens = _median(table.output_tokens_NA)
    slowest = [_median(table.latency_s_NA[:, expert]) for expert in range(len(table.experts))]
    return Typical(
        prompt_tokens,
        max(output_tokens, 1.0) if output_tokens > 0 else Typical().output_tokens,
        max((seconds for seconds in slowest if seconds > 0), default=float("nan")),
    )


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _code_version() -> str:
    try:
        return version("pointsman")
    except PackageNotFoundError:
        return "unknown"
