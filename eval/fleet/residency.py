"""How many experts to keep awake, from who was asked one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from eval.errors import ComparisonError
from experts.residency.paging import (
    farthest,
    faults,
    least_recent,
    segment_hits,
    segment_precision,
)


@dataclass(frozen=True, slots=True)
class Room:
    """What so many experts awake would have been worth.

    Attributes:
        awake: How many.
        most_asked: Share of the requests to the experts asked most: what keeping these awake, and
            never moving, would have answered at once.
        least_recent: Share that finds its expert awake where whoever was asked the longest ago
            makes room.
        look_ahead: The same, where a queue of routed requests tells who is asked next.
        best: The same, had the future been known (Belady): no rule can do better in that order.
        segment: The same for the best set per stretch, see `segment_hits`.
    """

    awake: int
    most_asked: float
    least_recent: float
    look_ahead: float
    best: float
    segment: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What to keep awake.

    Attributes:
        requests: How many were looked at.
        asked: Expert to its share of them, most asked first.
        rooms: One per number of experts awake.
        precision: See `segment_precision`: near 1 where a stretch of requests asks one expert.
        keep: Fewest experts, most asked first, so that the rest wakes for at most `most_woken` of
            the requests under look-ahead.
        most_woken: That share.
    """

    requests: int
    asked: dict[str, float]
    rooms: tuple[Room, ...]
    precision: float
    keep: tuple[str, ...]
    most_woken: float


def advice(
    row: Sequence[str], *, queue: int = 8, stretch: int = 50, most_woken: float = 0.05
) -> Advice:
    """Replay who was asked with room for one expert, two, and so on.

    Args:
        row: The expert of each request, in order.
        queue: How many coming requests a gateway knows the experts of.
        stretch: Requests of a segment.
        most_woken: See `Advice`, in (0, 1).

    Raises:
        ComparisonError: Fewer than two experts were asked.
    """
    counts = Counter(row)
    if len(counts) < 2:
        raise ComparisonError(
            "residency is a question where two experts or more were asked; "
            f"here that were {', '.join(counts) or 'none'}"
        )
    names = sorted(counts, key=lambda name: (-counts[name], name))
    asked = {name: counts[name] / len(row) for name in names}
    rooms = tuple(_room(row, asked, awake, queue, stretch) for awake in range(1, len(names) + 1))
    # With room for all, each wakes once.
    keep = next((each.awake for each in rooms if each.look_ahead >= 1 - most_woken), len(names))
    precision = segment_precision(row, stretch)
    return Advice(len(row), asked, rooms, precision, tuple(names[:keep]), most_woken)


def _room(
    row: Sequence[str], asked: dict[str, float], awake: int, queue: int, stretch: int
) -> Room:
    rules = (least_recent(row), farthest(row, queue), farthest(row))
    lru, ahead, best = (1 - faults(row, awake, rule) / len(row) for rule in rules)
    most_asked = sum(list(asked.values())[:awake])
    return Room(awake, most_asked, lru, ahead, best, segment_hits(row, stretch, awake))
