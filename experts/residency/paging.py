"""A row of requests and room for so many experts: how often the one that is asked is not awake.

Requests are answered in order, one expert each, and all experts are of one size. That is what a day
of the ledger can be replayed with, and where the best possible is known (Belady, 1966).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

Victim = Callable[[int, Collection[str]], str]
"""Who of the awake makes room at this place of the row; none of them is asked there."""


def faults(row: Sequence[str], room: int, victim: Victim) -> int:
    """How many requests find their expert asleep; each of them wakes it.

    Args:
        row: Who is asked, in order.
        room: How many can be awake at once, >= 1.
        victim: Who makes room.
    """
    if room < 1:
        raise ValueError(f"room must be for at least one expert, got {room}")
    awake: set[str] = set()
    count = 0
    for place, expert in enumerate(row):
        if expert in awake:
            continue
        count += 1
        if len(awake) >= room:
            awake.remove(victim(place, awake))
        awake.add(expert)
    return count


def least_recent(row: Sequence[str]) -> Victim:
    """Whoever was asked the longest ago (LRU)."""
    uses = _places(row)

    def victim(place: int, awake: Collection[str]) -> str:
        return min(awake, key=lambda name: (_last_before(uses[name], place), name))

    return victim


def farthest(row: Sequence[str], look_ahead: int | None = None) -> Victim:
    """Whoever is asked again last (Belady), which no other choice beats.

    Args:
        row: Who is asked, in order.
        look_ahead: How many coming requests are known, as a queue's are once they are routed; None
            is all. Of those not asked within it, whoever was asked least often so far goes, which
            with 0 is all that there is to go by.
    """
    uses = _places(row)

    def victim(place: int, awake: Collection[str]) -> str:
        known = len(row) if look_ahead is None else place + look_ahead

        def worth(name: str) -> tuple[float, float, str]:
            at = bisect_right(uses[name], place)
            coming = uses[name][at] if at < len(uses[name]) else len(row)
            seen = coming <= known and coming < len(row)
            return (-coming if seen else -len(row) - 1, float(at), name)

        return min(awake, key=worth)

    return victim


def segment_hits(row: Sequence[str], length: int, room: int) -> float:
    """Share of requests answered by experts awake, were the best `room` known per segment (SCH).

    Args:
        row: Who is asked, in order; not empty.
        length: Requests of a segment, >= 1.
        room: Experts that stay awake all through a segment, >= 1.

    Source: Liang et al., "Not All Models Suit Expert Offloading: On Local Routing Consistency of
    Mixture-of-Expert Models", 2025, carried from tokens to requests.
    """
    segments = _segments(row, length)
    hits = sum(sum(count for _, count in each.most_common(room)) for each in segments)
    return hits / len(row)


def segment_precision(row: Sequence[str], length: int) -> float:
    """How well one set of experts per segment fits what is asked in it (SRP), in (0, 1].

    The set holds whoever makes up at least a share t of the segment; F1 of its hits, at the best t.
    1 means that each segment asks one expert only. Source: as `segment_hits`.
    """
    segments = [(each, sum(each.values())) for each in _segments(row, length)]
    shares = {count / size for each, size in segments for count in each.values()}
    best = 0.0
    for threshold in shares:
        matches = held = 0
        for each, size in segments:
            kept = [count for count in each.values() if count / size >= threshold]
            matches += sum(kept)
            held += len(kept) * size
        if matches:
            precision, recall = matches / held, matches / len(row)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def _segments(row: Sequence[str], length: int) -> list[Counter[str]]:
    return [Counter(row[start : start + length]) for start in range(0, len(row), length)]


def _places(row: Sequence[str]) -> Mapping[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(row):
        places.setdefault(name, []).append(place)
    return places


def _last_before(places: Sequence[int], place: int) -> int:
    at = bisect_right(places, place)
    return places[at - 1] if at else -1
