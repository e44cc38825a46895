"""What logged requests asked for: a trade-off, and the named policy that decides by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from eval.errors import OffPolicyError
from experts.cards import ExpertCard, Prices
from routers.base import Policy
from routers.eligible import Constraints
from routers.named import NO_LIMITS, Named, decider
from routers.records import Preference
from routers.router import Router


@dataclass(frozen=True, slots=True)
class LoggedWishes:
    """What each of N requests asked for.

    Attributes:
        preferences: The trade-off of each, length N.
        policies: The policy that each was decided by, length N; empty: the router's own for all.
        named: The policies as they are configured; by any other name the router's own decides.
        cards: What is known of experts beside their prices; may be empty.
    """

    preferences: Sequence[Preference]
    policies: Sequence[str] = ()
    named: Mapping[str, Named] = field(default_factory=dict)
    cards: Mapping[str, ExpertCard] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.preferences)

    def take(self, rows: npt.NDArray[np.intp]) -> LoggedWishes:
        """Only these requests, in that order."""
        kept = rows.tolist()
        policies = [self.policies[row] for row in kept] if self.policies else ()
        return replace(self, preferences=[self.preferences[row] for row in kept], policies=policies)

    def under(self, policy: str) -> LoggedWishes:
        """The same requests, had they all asked for one policy and nothing else.

        Raises:
            OffPolicyError: No policy has that name.
        """
        if policy not in self.named:
            known = ", ".join(sorted(self.named))
            raise OffPolicyError(f"there is no policy {policy!r}; there are {known}")
        count = len(self)
        return replace(
            self, preferences=[self.named[policy].preference] * count, policies=[policy] * count
        )

    def at(self, preference: Preference) -> LoggedWishes:
        """The same requests, had the router's own policy decided them all by one trade-off."""
        return replace(self, preferences=[preference] * len(self), policies=())

    def limits(self, row: int) -> Constraints:
        """The hard limits of a request's policy; its own wishes are in who was eligible."""
        named = self.named.get(self.policies[row]) if self.policies else None
        return NO_LIMITS if named is None else named.constraints

    def pool(self, prices: Mapping[str, Prices | None]) -> tuple[ExpertCard, ...]:
        """The card of every expert that has an entry in `prices`, with that price, by id."""
        return tuple(
            replace(self.cards.get(expert, ExpertCard(expert)), prices=prices[expert])
            for expert in sorted(prices)
        )

    def deciders(self, router: Router, prices: Mapping[str, Prices | None]) -> list[Policy]:
        """What decides each request under `router`; each policy is fitted once.

        One that adapts is one and the same for all of its requests.
        """
        cards = self.pool(prices)
        found = {
            name: decider(self.named[name], router, cards) if name in self.named else router.policy
            for name in sorted(set(self.policies))
        }
        if not self.policies:
            return [router.policy] * len(self)
        return [found[name] for name in self.policies]
