"""One vector space per index: who has embedded for a collection goes on to.

Vectors of two models can't be compared, so an embedder is chosen once for whatever is compared
later: a collection, or else a session. A query that may be about several collections is routed
among those who embedded them, and told which of them to search.

Source of the routing: Lee et al., "RouterRetriever: Routing over a Mixture of Expert Embedding
Models", AAAI 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio.to_thread

from gateway.ask import Ask
from gateway.embedding.book import Place, Space, SpaceBook
from gateway.errors import ApiError
from gateway.pool.pool import Pool

if TYPE_CHECKING:
    from sqlalchemy import Engine

_MOST_REMEMBERED = 100_000


class KnownSpaces:
    """Spaces that were read or written; they never change. It outlives a configuration."""

    def __init__(self, engine: Engine) -> None:
        self._book = SpaceBook(engine)
        self._known: dict[Place, Space] = {}

    async def of(self, places: Iterable[Place]) -> Mapping[Place, Space]:
        """Those of `places` that have one."""
        wanted = tuple(places)
        if missing := [place for place in wanted if place not in self._known]:
            self._learn(await anyio.to_thread.run_sync(self._book.found, missing))
        return {place: self._known[place] for place in wanted if place in self._known}

    async def claimed(self, place: Place, space: Space) -> Space:
        """See `SpaceBook.claimed`."""
        has = await anyio.to_thread.run_sync(self._book.claimed, place, space)
        self._learn({place: has})
        return has

    def _learn(self, found: Mapping[Place, Space]) -> None:
        if len(self._known) + len(found) > _MOST_REMEMBERED:
            self._known.clear()
        self._known.update(found)


class Spaces:
    """Holds requests for vectors to the spaces that they have to lie in.

    Args:
        pool: Who there is.
        known: Who embedded what.
        routed: Whether a router chooses among embedders: only then may sessions differ.
    """

    def __init__(self, pool: Pool, known: KnownSpaces, *, routed: bool) -> None:
        self._pool = pool
        self._known = known
        self._routed = routed

    async def settled(self, ask: Ask) -> Ask:
        """The request with what was embedded before for the places that it names.

        Raises:
            ApiError: 400, it names what can't be answered by one of these spaces.
            LedgerError: The ledger can't be read.
        """
        places = self._places(ask)
        if not places:
            return ask
        found = await self._known.of(places)
        for place in places:
            if place in found:
                self._check(place, found[place], ask)
            elif ask.wishes.collections:
                raise _refused("collections", f"nothing was embedded for {place.name!r} yet")
        return replace(ask, built={place.name: found[place].expert for place in found})

    async def kept(self, ask: Ask, expert_id: str) -> Ask:
        """The request, whose space is on record now; or as it is if somebody else was first.

        Args:
            ask: As `settled` returned it.
            expert_id: Who is about to embed it.
        """
        places = self._places(ask)
        if not places or ask.built:
            return ask
        (place,) = places
        card = self._pool.card(expert_id)
        mine = Space(expert_id, card.space, ask.request.params.get("dimensions"))
        has = await self._known.claimed(place, mine)
        self._check(place, has, ask)
        return replace(ask, built={place.name: has.expert})

    def _places(self, ask: Ask) -> tuple[Place, ...]:
        wishes, project = ask.wishes, ask.key.project
        if wishes.collections:
            if wishes.collection is not None:
                raise _refused("collections", "name either `collection` or `collections`")
            names = dict.fromkeys(wishes.collections)
            return tuple(Place(project, "collection", name) for name in names)
        if wishes.collection is not None:
            return (Place(project, "collection", wishes.collection),)
        if wishes.session is not None and self._routed:
            return (Place(project, "session", wishes.session),)
        return ()

    def _check(self, place: Place, has: Space, ask: Ask) -> None:
        """Raises ApiError 400 when vectors like those of the place can't be had any more."""
        what = f"the {place.kind} {place.name!r}"
        expert = self._pool.experts.get(has.expert)
        if expert is None:
            raise other_space(f"{what} was embedded by {has.expert!r}, which is not in the pool")
        if expert.card.space != has.space:
            raise other_space(
                f"{what} was embedded by {has.space!r} as {has.expert!r}, which is "
                f"{expert.card.space!r} now; embed it anew under another name"
            )
        wanted = ask.request.params.get("dimensions")
        if wanted != has.dimensions:
            raise other_space(
                f"{what} has vectors of {_dimensions(has.dimensions)}, not of {_dimensions(wanted)}"
            )


def embeds(ask: Ask) -> bool:
    """Whether it asks for vectors."""
    return ask.request.task == "embed"


def searched(ask: Ask, expert_id: str) -> tuple[str, ...]:
    """The collections that the request named in which vectors of this expert lie."""
    wishes = ask.wishes
    named = wishes.collections or (() if wishes.collection is None else (wishes.collection,))
    return tuple(name for name in named if ask.built.get(name) == expert_id)


def other_space(message: str) -> ApiError:
    """A refusal to mix vectors that can't be compared."""
    return ApiError(
        400, f"{message}: vectors can't be compared", code="other_vector_space", param="model"
    )


def _dimensions(count: int | None) -> str:
    return "its embedder's own dimensions" if count is None else f"{count} dimensions"


def _refused(field: str, message: str) -> ApiError:
    param = f"pointsman.{field}"
    return ApiError(400, f"{param}: {message}", param=param)
