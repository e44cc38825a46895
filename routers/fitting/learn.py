"""From a router and new outcomes to a router that has learned from them too."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from routers.base import OnlineEstimator
from routers.errors import RoutingError, TableError
from routers.fitting.fit import by_query_id, data_hash
from routers.records import OutcomeTable
from routers.router import Router
from routers.storage.artifacts import with_content_version


def learn_on(router: Router, table: OutcomeTable) -> Router:
    """The router after these outcomes too, without the ones it was trained on.

    They are taken in the order of their query ids, which in a ledger begin with the time. The
    encoder, what a typical request is and the rehearsal stay those of the training.

    Args:
        router: Trained, with an estimator that learns on.
        table: New outcomes, of some of the experts that the router knows.

    Raises:
        RoutingError: Its estimator can't learn on.
        TableError: The table is malformed, names an expert that the router doesn't know, or is one
            that it has learned from already.
    """
    estimator = router.estimator
    if not isinstance(estimator, OnlineEstimator):
        raise RoutingError(
            f"router {router.name!r} has the estimator {estimator.name!r}, which can't learn on; "
            "train it anew on all outcomes"
        )
    digest = data_hash(table)
    if digest in _learned_from(router):
        raise TableError(f"router {router.name!r} has learned from these very outcomes already")
    # How sums are split over threads changes their last digits, and with them the version.
    with threadpool_limits(limits=1):
        aligned = by_query_id(_for_experts(router, table))
        features = router.featurizer.transform(aligned.prompts)
        learned = estimator.partial_fit(features, aligned, np.random.default_rng(0))
    metadata = _about(router, table, digest)
    return with_content_version(replace(router, estimator=learned, metadata=metadata))


def _for_experts(router: Router, table: OutcomeTable) -> OutcomeTable:
    """The table with a column for every expert of the router, unobserved where it had none."""
    experts = tuple(router.metadata["experts"])
    strangers = sorted(set(table.experts) - set(experts))
    if strangers:
        raise TableError(
            f"router {router.name!r} doesn't know {', '.join(strangers)}; it can't learn on about "
            "a new expert, so train it anew"
        )
    columns = [experts.index(expert) for expert in table.experts]
    arrays = {}
    for each in fields(table):
        if each.name.endswith("_NA"):
            unseen = 1.0 if each.name == "propensity_NA" else np.nan
            arrays[each.name] = np.full((len(table), len(experts)), unseen)
            arrays[each.name][:, columns] = getattr(table, each.name)
    return replace(table, experts=experts, **arrays)  # type: ignore[arg-type]


def _learned_from(router: Router) -> set[str]:
    later = router.metadata.get("learned", ())
    return {router.metadata["data_sha256"], *(each["data_sha256"] for each in later)}


def _about(router: Router, table: OutcomeTable, digest: str) -> dict[str, Any]:
    metadata = dict(router.metadata)
    scores = int((~np.isnan(table.score_NA)).sum())
    lesson = {
        "rows": len(table),
        "scores": scores,
        "data_sha256": digest,
        "after": router.version,
    }
    return metadata | {
        "rows": metadata["rows"] + len(table),
        "scores": metadata["scores"] + scores,
        "learned": [*metadata.get("learned", ()), lesson],
    }
