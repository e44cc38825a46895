"""What can be known of a composition from the cards of those it asks. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from experts.cards import LOCATIONS, NO_CAPS, PRIVACY, Caps, ExpertCard, Prices

_STRICTEST = ("data", "public", "any")


class Share(NamedTuple):
    """How one child takes part.

    Attributes:
        card: Whose calls.
        calls: How many of them are expected per answer, >= 0.
        reads: How many answers of others each reads beside the prompt, >= 0.
        writes: How much longer its answer is than one to the client, as a factor >= 0.
    """

    card: ExpertCard
    calls: float = 1.0
    reads: float = 0.0
    writes: float = 1.0


class Made(NamedTuple):
    """Calls that a composition made.

    Attributes:
        answers: How many answers they were made for.
        calls: Id of each child to the calls of it, for all of these answers.
    """

    answers: int
    calls: Mapping[str, float]


_DOUBT = 20
"""How many answers a composition's shape counts for, beside those that it gave."""


def as_made(shares: Sequence[Share], made: Made) -> list[Share]:
    """`shares` with as many calls of each child as there were, at first as many as expected.

    (calls made + 20 · expected) / (answers + 20); a child with several shares keeps their ratio.
    """
    expected: defaultdict[str, float] = defaultdict(float)
    for share in shares:
        expected[share.card.expert_id] += share.calls
    found = []
    for share in shares:
        name = share.card.expert_id
        known = made.calls.get(name, 0.0) + _DOUBT * expected[name]
        part = share.calls / expected[name] if expected[name] else 0.0
        found.append(share._replace(calls=part * known / (made.answers + _DOUBT)))
    return found


def expected_prices(shares: Iterable[Share]) -> Prices | None:
    """What all calls cost together, per token of the prompt and of one answer; None if unknown.

    A child that reads others' answers pays its price of input for them, so that it adds to what a
    token of the answer costs.
    """
    read = write = request = 0.0
    for share in shares:
        prices = share.card.prices
        if prices is None:
            return None
        read += share.calls * prices.input
        write += share.calls * (share.writes * prices.output + share.reads * prices.input)
        request += share.calls * prices.request
    return Prices(read, write, request=request, source="expected of its children")


def composed_card(
    expert_id: str,
    shares: Sequence[Share],
    least: Sequence[Share],
    *,
    description: str = "",
    quality_prior: float | None = None,
    caps: Caps = NO_CAPS,
) -> ExpertCard:
    """The card of a composition: it can what all of its children can, and is as bound as each.

    Args:
        expert_id: Its own name.
        shares: Everyone it may ask, with how often that is expected.
        least: The calls of its cheapest way to an answer.
        description: One sentence for people.
        quality_prior: In [0, 1]; None: a little above its best child's.
        caps: What one call may come to.
    """
    members = tuple({share.card.expert_id: share.card for share in shares}.values())
    tags = set(members[0].tags.items())
    for member in members:
        tags &= set(member.tags.items())
    best = max(member.quality_prior for member in members)
    return ExpertCard(
        expert_id,
        description,
        expected_prices(shares),
        context_tokens=_smallest(member.context_tokens for member in members),
        max_output_tokens=_smallest(member.max_output_tokens for member in members),
        modalities=_all_read([member.modalities for member in members]),
        tools=_all_can([member.tools for member in members]),
        structured_output=_all_can([member.structured_output for member in members]),
        local=all(member.local for member in members),
        location=max((member.location for member in members), key=LOCATIONS.index),
        rtt_s=min(member.rtt_s for member in members),
        privacy=min((member.privacy for member in members), key=PRIVACY.index),
        quality_prior=best + 0.1 * (1 - best) if quality_prior is None else quality_prior,
        params_active_b=_largest(member.params_active_b for member in members),
        params_total_b=_largest(member.params_total_b for member in members),
        released=_oldest(members),
        tags=dict(sorted(tags)),
        composed=True,
        members=members,
        least=expected_prices(share._replace(card=_at_least(share.card)) for share in least),
        caps=caps,
        params="strict" if any(member.params == "strict" for member in members) else "pass",
        params_allow=frozenset.intersection(*(member.params_allow for member in members)),
        media_urls=min((member.media_urls for member in members), key=_STRICTEST.index),
    )


def _at_least(card: ExpertCard) -> ExpertCard:
    """The card as that of its cheapest way through."""
    return replace(card, prices=card.least) if card.composed else card


def _all_can(said: Sequence[bool | None]) -> bool | None:
    """Whether everyone can: no if one says no, None if one does not say."""
    return False if False in said else None if None in said else True


def _all_read(said: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """What everyone reads; None where that depends on those that do not say."""
    stated = [each for each in said if each is not None]
    shared = frozenset.intersection(*stated) if stated else None
    return shared if len(stated) == len(said) or shared == frozenset({"text"}) else None


def _smallest(values: Iterable[int | None]) -> int | None:
    """The least that is known to bound: who has no known limit is no bound."""
    return min((value for value in values if value is not None), default=None)


def _largest(values: Iterable[float | None]) -> float | None:
    """The most, None as soon as one is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return max(known) if len(known) == len(found) else None


def _oldest(members: Iterable[ExpertCard]) -> str:
    """The first of their days, "" as soon as one is unknown; months and years say no day."""
    days = [member.released for member in members]
    return min(days) if all(days) else ""
