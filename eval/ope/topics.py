"""What requests are about, where nobody has said: clusters of their texts, named by their words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MOST = 6
_FEWEST = 50
"""Requests that a cluster has on average, at least."""
_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{3,}")
# Of a long prompt the beginning tells what it is about.
_LOOKED_AT = 2_000


def topics(
    prompts: Sequence[str], vectors_ND: npt.NDArray[np.float32], seed: int
) -> list[str | None]:
    """The topic of each request; None for all of them where there are too few.

    k-means on the vectors; a topic is called by the words that are in most of its requests and in
    few of the others (share inside × log of one over the share in all).

    Args:
        prompts: Length N.
        vectors_ND: Their features.
        seed: Where the clusters begin.
    """
    from sklearn.cluster import KMeans

    count = min(_MOST, len(prompts) // _FEWEST)
    if count < 2:
        return [None] * len(prompts)
    means = KMeans(n_clusters=count, n_init=2, random_state=seed)
    cluster_N = means.fit_predict(vectors_ND).tolist()
    everywhere: Counter[str] = Counter()
    inside = [Counter[str]() for _ in range(count)]
    for prompt, cluster in zip(prompts, cluster_N, strict=True):
        words = set(_WORD.findall(prompt[:_LOOKED_AT].lower()))
        everywhere.update(words)
        inside[cluster].update(words)
    names: list[str] = []
    for own in inside:
        names.append(_name(own, everywhere, len(prompts), names))
    return [names[cluster] for cluster in cluster_N]


def _name(own: Counter[str], everywhere: Counter[str], total: int, taken: Sequence[str]) -> str:
    def telling(word: str) -> tuple[float, str]:
        return own[word] * math.log((1 + total) / everywhere[word]), word

    words = sorted(own, key=telling, reverse=True)
    name = ", ".join(words[:_WORDS]) or "no words"
    return name if name not in taken else f"{name} ({len(taken) + 1})"
