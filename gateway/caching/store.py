"""A bounded store of answers: the least recently used go first, and nothing outlives its time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gateway.caching.entries import CacheEntry, Question

# Comparing with that many takes a tenth of a millisecond.
_LARGEST_BUCKET = 512


class AnswerStore:
    """Entries by fingerprint and, those with a question, by similarity.

    Args:
        ttl_s: How long an answer may be given again.
        max_entries: Most entries.
        max_bytes: Most bytes of all entries together; a larger one is not kept.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        ttl_s: float,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, CacheEntry] = OrderedDict()
        self._buckets: dict[bytes, _Bucket] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def now(self) -> float:
        """Seconds on the clock by which entries age."""
        return self._clock()

    def age_s(self, entry: CacheEntry) -> float:
        return self._clock() - entry.stored_at

    def get(self, key: bytes) -> CacheEntry | None:
        """The entry of this fingerprint, if it is young enough."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self.age_s(entry) >= self._ttl_s:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def nearest(self, question: Question, threshold: float) -> tuple[CacheEntry, float] | None:
        """The entry with the most similar question and its cosine, if that is high enough."""
        bucket = self._buckets.get(question.bucket)
        for key, cosine in bucket.near(question, threshold) if bucket else ():
            if (entry := self.get(key)) is not None:
                return entry, cosine
        return None

    def put(self, entry: CacheEntry) -> None:
        """Keep an entry in place of the one that had its fingerprint."""
        self._remove(entry.key)
        if entry.size > self._max_bytes:
            return
        self._entries[entry.key] = entry
        self.bytes += entry.size
        if entry.question is not None:
            self._buckets.setdefault(entry.question.bucket, _Bucket()).add(
                entry.key, entry.question
            )
        while self.bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.size
        if entry.question is not None and entry.question.bucket in self._buckets:
            bucket = self._buckets[entry.question.bucket]
            bucket.discard(key)
            if not bucket.questions:
                del self._buckets[entry.question.bucket]


class _Bucket:
    """Questions that may be compared, oldest first."""

    def __init__(self) -> None:
        self.questions: dict[bytes, Question] = {}
        self._vectors_ND: npt.NDArray[np.float32] | None = None

    def add(self, key: bytes, question: Question) -> None:
        self.questions[key] = question
        if len(self.questions) > _LARGEST_BUCKET:
            del self.questions[next(iter(self.questions))]
        self._vectors_ND = None

    def discard(self, key: bytes) -> None:
        if self.questions.pop(key, None) is not None:
            self._vectors_ND = None

    def near(self, question: Question, threshold: float) -> list[tuple[bytes, float]]:
        """Keys and cosines, nearest first, of those that say nothing else in its place."""
        if self._vectors_ND is None:
            self._vectors_ND = np.stack([known.vector_D for known in self.questions.values()])
        cosines_N = self._vectors_ND @ question.vector_D
        keys = list(self.questions)
        # Rounding takes a little off the cosine of a vector with itself.
        order = [int(i) for i in np.argsort(-cosines_N) if cosines_N[i] >= threshold - 1e-6]
        return [
            (keys[index], min(1.0, float(cosines_N[index])))
            for index in order
            if _says_no_other(question.words, self.questions[keys[index]].words)
        ]


def _says_no_other(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one of them is the other with words left out: none replaced, none elsewhere."""
    # "maximum" in place of "minimum" hardly moves the vector of a long text, nor do two words that
    # have changed places.
    few, many = sorted((words, others), key=len)
    left = iter(many)
    return all(word in left for word in few)
