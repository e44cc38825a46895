"""Regions of the request space around centres: membership of a request, and tables over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from routers.records import Floats, State, Vectors

_CLUSTERED_ROWS = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Several sets of centres, each of which divides the space.

    A request belongs to the `nearest` centres of each set with weights softmax(sharpness · cosine).

    Attributes:
        centres_SRD: S sets of R unit-length centres, float32.
        nearest: How many centres of each set a request may belong to, >= 1.
        sharpness: How fast membership falls with cosine similarity.
    """

    centres_SRD: Vectors
    nearest: int = 1
    sharpness: float = 20.0

    def homes(self, vectors_ND: Vectors) -> Floats:
        """1 for the nearest centre of each set, otherwise 0, shape (N, S·R)."""
        alike_NSR = self._alike(vectors_ND)
        nearest_NS1 = alike_NSR.argmax(axis=2)[:, :, None]
        own_NSR = (np.arange(alike_NSR.shape[2]) == nearest_NS1).astype(np.float64)
        own_NR: Floats = own_NSR.reshape(
            len(vectors_ND), len(self.centres_SRD) * alike_NSR.shape[2]
        )
        return own_NR

    def shares(self, vectors_ND: Vectors) -> Floats:
        """Membership in every region of every set, shape (N, S·R), each row summing to 1."""
        alike_NSR = self._alike(vectors_ND)
        _, seeds, count = alike_NSR.shape
        last = max(count - self.nearest, 0)
        least_NS1 = np.partition(alike_NSR, last, axis=2)[:, :, last : last + 1]
        top_NS1 = alike_NSR.max(axis=2, keepdims=True)
        share_NSR = np.exp(self.sharpness * (alike_NSR - top_NS1)) * (alike_NSR >= least_NS1)
        share_NSR /= share_NSR.sum(axis=2, keepdims=True) * seeds
        shares_NR: Floats = share_NSR.reshape(len(vectors_ND), seeds * count)
        return shares_NR

    def state(self) -> State:
        params = {"nearest": self.nearest, "sharpness": self.sharpness}
        return params, {"centres": self.centres_SRD}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state[1]["centres"], state[0]["nearest"], state[0]["sharpness"])

    def _alike(self, vectors_ND: Vectors) -> Floats:
        seeds, count, width = self.centres_SRD.shape
        flat_ND = self.centres_SRD.reshape(seeds * count, width)
        alike_NR = (vectors_ND @ flat_ND.T).astype(np.float64)
        return alike_NR.reshape(len(vectors_ND), seeds, count)


def k_means(vectors_ND: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Unit-length centres of `count` clusters, found on at most 4,000 of the rows, (count, D).

    Some are equal where fewer rows than that differ.
    """
    # Only training needs it, and it takes longer to load than a gateway to start.
    from sklearn.cluster import KMeans

    rows = rng.permutation(len(vectors_ND))[:_CLUSTERED_ROWS]
    clustered_ND = vectors_ND[np.sort(rows)].astype(np.float64)
    distinct = min(count, len(np.unique(clustered_ND, axis=0)))
    kmeans = KMeans(distinct, n_init=1, random_state=int(rng.integers(2**31)))
    # Threads add up in whatever order they finish, and the same seed must give the same centres.
    with threadpool_limits(limits=1):
        kmeans.fit(clustered_ND)
    # Of equal centres the first is the nearest one.
    return unit_rows(kmeans.cluster_centers_[np.arange(count) % distinct])


def unit_rows(centres_RD: Floats) -> Vectors:
    """Rows of unit length, float32; rows of zeros stay."""
    norms_R1 = np.maximum(np.linalg.norm(centres_RD, axis=1, keepdims=True), 1e-12)
    unit_RD: Vectors = (centres_RD / norms_R1).astype(np.float32)
    return unit_RD
