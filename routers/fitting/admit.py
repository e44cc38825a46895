"""From a router and a few probes of a new expert to a router that may choose it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from routers.base import Estimator, OpenPoolEstimator
from routers.errors import TableError
from routers.estimators.safe import SafeEstimator
from routers.fitting.fit import data_hash
from routers.records import FeatureBatch, OutcomeTable
from routers.router import UNTRAINED_VERSION, Router
from routers.storage.artifacts import with_content_version

FEWEST_PROBES = 25
"""From so many probes on a newcomer is chosen where it is clearly better; fewer do no harm."""


def admit(router: Router, expert: str, table: OutcomeTable) -> Router:
    """The router with `expert` in its pool, by the lower bound that its outcomes give it.

    What is expected of all others stays the same, and nothing is trained anew. An estimator that
    takes in no expert itself is wrapped in `SafeEstimator`, whose clusters are made of the probes.

    Args:
        router: Trained.
        expert: Its id, which the router must not know yet.
        table: Outcomes among which are some of `expert`; those of others are not looked at.

    Raises:
        TableError: The table has no outcome of `expert`, or the router is untrained or knows it.
    """
    if router.version == UNTRAINED_VERSION:
        raise TableError(f"router {router.name!r} is untrained; train it before it admits anyone")
    probes = probes_in(table, expert)
    # How sums are split over threads changes their last digits, and with them the version.
    with threadpool_limits(limits=1):
        features = router.featurizer.transform(probes.prompts)
        opened, wrapped = _opened(router.estimator, features)
        estimator = opened.add_expert(expert, features, probes)
        experts = estimator.predict(features.take(np.arange(1))).experts
    metadata = _about(router, expert, probes) | {"experts": list(experts)}
    if wrapped:
        metadata["wrappers"] = ["safe", *metadata.get("wrappers", ())]
    return with_content_version(replace(router, estimator=estimator, metadata=metadata))


def probes_in(table: OutcomeTable, expert: str) -> OutcomeTable:
    """The graded answers of `expert` in a table of outcomes, sorted by query.

    Raises:
        TableError: There is none.
    """
    if expert not in table.experts:
        raise TableError(
            f"there is no outcome of expert {expert!r}, only of {', '.join(table.experts)}"
        )
    column = table.experts.index(expert)
    arrays = {
        each.name: getattr(table, each.name)[:, [column]]
        for each in fields(table)
        if each.name.endswith("_NA")
    }
    alone = replace(table, experts=(expert,), **arrays)
    graded_N = ~np.isnan(alone.score_NA[:, 0])
    if not graded_N.any():
        raise TableError(f"no answer of expert {expert!r} has a score")
    order = np.argsort(np.array(alone.query_ids))
    return alone.take(order[graded_N[order]])


def _opened(estimator: Estimator, features: FeatureBatch) -> tuple[OpenPoolEstimator, bool]:
    if isinstance(estimator, OpenPoolEstimator):
        return estimator, False
    return SafeEstimator.around(estimator, features, np.random.default_rng(0)), True


def _about(router: Router, expert: str, probes: OutcomeTable) -> dict[str, Any]:
    admission = {
        "expert": expert,
        "probes": len(probes),
        "data_sha256": data_hash(probes),
        "into": router.version,
    }
    before = router.metadata.get("admitted", ())
    return {**router.metadata, "admitted": [*before, admission]}
