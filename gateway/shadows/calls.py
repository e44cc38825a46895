"""Asks experts that did not serve a request the same, so that the roads not taken have outcomes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import anyio
import numpy as np

from experts.cards import ExpertCard
from experts.errors import ExpertError
from experts.http.breaker import BreakerState
from experts.messages import collect
from gateway.errors import GatewayError
from gateway.execution.attempt import Attempts
from gateway.execution.traffic import Terms
from gateway.ledger.shadows import spent_since
from gateway.outcomes.ended import Ended, Hear, Limits
from gateway.pool.pool import Pool
from gateway.server.shutdown import stop
from gateway.settings.access import Limit
from gateway.settings.root import Settings
from gateway.shadows.books import ShadowBooks
from gateway.shadows.budget import ShadowBudget
from routers.records import UNEXPLORED

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from gateway.state import Lasting, Uses

_log = logging.getLogger(__name__)
_WHO = "shadow"
# What a tool call is worth shows when it is carried out, and some are carried out at the provider.
_ACTS = ("tools", "functions", "web_search_options", "mcp_servers", "container")


@dataclass(slots=True)
class ShadowWork:
    """What goes on, what became of it, and the money; it outlives the settings it began under.

    Attributes:
        budget: What may be spent.
        room: How many calls run at once.
        tasks: Calls that wait or run.
        counts: Calls that were `ok`, `failed`, `gave_way` (a request wanted the slot) or `refused`
            (by the budget or by the ledger).
    """

    budget: ShadowBudget
    room: asyncio.Semaphore
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, settings: Settings, engine: Engine) -> Self:
        """With what the ledger says was spent in this period already. Reads it."""
        shadow, workers = settings.shadow, max(1, settings.server.workers)
        budget = ShadowBudget(
            Limit(usd=shadow.budget_usd / workers, per=shadow.per),
            default_tokens=settings.access.default_max_tokens,
        )
        if shadow.share:
            budget.account.spent = spent_since(engine, budget.account.since) // workers
        return cls(budget, asyncio.Semaphore(shadow.at_once))

    def renewed(self, before: Settings, settings: Settings, engine: Engine) -> ShadowWork:
        """The same work under other settings."""
        if before.shadow == settings.shadow:
            return self
        fresh = ShadowWork.of(settings, engine)
        return ShadowWork(fresh.budget, fresh.room, self.tasks, self.counts)

    async def aclose(self) -> None:
        """Stop; who was not asked yet never is."""
        await stop(self.tasks)


class ShadowCalls:
    """Samples requests, and asks the others afterwards. Lives on the event loop; nobody waits.

    Args:
        settings: For how many requests, whom, and for how much.
        pool: Who there is.
        lasting: Where calls are made and booked. Those of clients have precedence.
        uses: Counts what keeps the gateway from being closed.
        score: Hears of the answers.
        limits: What the decision about a request was bound by.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        lasting: Lasting,
        uses: Uses,
        score: Hear,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._settings = settings.shadow
        self._total_s = settings.limits.total_s
        self._pool = pool
        self._traffic = lasting.traffic
        self._ledger = lasting.ledger
        self._work = lasting.shadows
        self._redactor = lasting.redactor
        self._shutdown = lasting.shutdown
        self._uses = uses
        self._score = score
        # Of its own, so that decisions stay the same with shadows.
        self._rng = np.random.default_rng()

    def offer(self, ended: Ended) -> Mapping[str, float] | None:
        """Sample a request that was answered, and have the others asked if chance says so.

        Returns:
            The chance that each expert had, whatever chance said: for the books. It depends on
            nothing that the answer said. The one that was drawn has the chance that it would have
            had, had it not been drawn. None: nobody had one.
        """
        experts = self._apt(ended)
        drawn, share = ended.decision.expert, self._settings.share
        if all(expert == drawn for expert in experts):
            return None
        if self._rng.random() < share:
            for expert in experts:
                if expert != drawn:
                    self._begin(expert, ended)
        return dict.fromkeys(experts, share)

    def _apt(self, ended: Ended) -> list[str]:
        """Who may be asked; nobody, where the request is not one for shadows."""
        ask, decision = ended.ask, ended.decision
        explored = decision.router != "explicit" and UNEXPLORED not in decision.flags
        if not explored or not ended.fresh or ask.wishes.critical or self._shutdown.begun:
            return []
        if ask.request.task == "embed" or any(ask.request.params.get(name) for name in _ACTS):
            return []
        allowed = self._settings.experts or decision.candidates.experts
        cards = [
            self._pool.card(expert) for expert in decision.candidates.experts if expert in allowed
        ]
        cards = [card for card in cards if self._in_service(card)]
        full = len(self._work.tasks) + len(cards) > self._settings.most_waiting
        if full or not self._work.budget.allows(cards, ask.request):
            return []
        return [card.expert_id for card in cards]

    def _in_service(self, card: ExpertCard) -> bool:
        priced = card.prices is not None or card.composed
        return priced and self._traffic.health.state(card.expert_id) is BreakerState.CLOSED

    def _begin(self, expert: str, ended: Ended) -> None:
        give_back = self._work.budget.set_aside(self._pool.card(expert), ended.ask.request)
        self._uses.begin()
        task = asyncio.get_running_loop().create_task(self._ask(expert, ended, give_back))
        self._work.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.tasks.discard(task)
        self._uses.end()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a shadow call failed", exc_info=error)

    async def _ask(self, expert: str, ended: Ended, give_back: Callable[[], None]) -> None:
        try:
            await self._work.room.acquire()
        finally:
            # From here on the call itself sets aside what it may cost.
            give_back()
        try:
            self._work.counts[await self._asked(expert, ended)] += 1
        finally:
            self._work.room.release()

    async def _asked(self, expert: str, ended: Ended) -> str:
        """What became of it."""
        books = ShadowBooks(self._ledger, ended.decision_id, self._redactor)
        with anyio.CancelScope() as scope:
            try:
                text = await self._said(expert, ended, books, scope.cancel)
            except ExpertError as error:
                _log.info("%s gave no answer to a shadow call: %s", expert, error)
                return "failed"
            except GatewayError as error:
                _log.info("a shadow call to %s was not made: %s", expert, error)
                return "refused"
            self._score(ended._replace(text=text, served=ended.text, shadow_id=books.root_id))
            return "ok"
        return "gave_way"

    async def _said(
        self, expert: str, ended: Ended, books: ShadowBooks, recall: Callable[[], None]
    ) -> str:
        request = ended.ask.request
        terms = Terms(
            anyio.current_time() + self._total_s,
            _WHO,
            reservation=self._work.budget,
            recall=recall,
            privacy=self._limits(ended.ask, ended.decision).privacy,
        )
        calls = Attempts(self._traffic, terms, books)
        async with aclosing(calls.run(self._pool.experts[expert], request)) as events:
            return (await collect(events)).text
