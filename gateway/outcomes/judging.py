"""Asks models how good answers were: sampled, beside the requests, and within a budget."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import numpy as np

from experts.errors import ExpertError
from experts.messages import ChatRequest, Message, collect
from gateway.access.keys import Key
from gateway.ask import Ask, Wishes
from gateway.errors import GatewayError
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Ended, Limits
from gateway.outcomes.questions import way_of
from gateway.server.shutdown import stop
from gateway.settings.access import Grant, Limit
from gateway.settings.outcomes import JudgeSettings
from routers.eligible import Constraints
from routers.errors import RoutingError

if TYPE_CHECKING:
    from gateway.service import Service
    from gateway.state import Uses

_log = logging.getLogger(__name__)
WIRE = "judge"
"""What the ledger has as the wire of a judge's requests; their answers are not judged."""
PROJECT = "judges"
_AT_ONCE = 4


class Judge:
    """One judge and its key, whose limit is its budget: set aside before, settled after each call.

    Args:
        settings: What it is asked, and how often.
        gates: Where fitted gates are.
    """

    def __init__(self, settings: JudgeSettings, gates: Path) -> None:
        self.settings = settings
        self._way = way_of(settings, gates)
        limit = Limit(usd=settings.budget_usd, per=settings.per)
        self._key = Key(f"judge:{settings.name}", Grant(project=PROJECT, limits=(limit,)))

    def wants(self, ended: Ended, rng: np.random.Generator) -> bool:
        """Whether this answer is in its sample."""
        if self._way.needs_pair and ended.served is None:
            return False
        if self.settings.when == "router" and ended.decision.router == "explicit":
            return False
        # What a shadow call gave is in the sample already.
        return ended.shadow_id is not None or rng.random() < self.settings.rate

    def asks(self, ended: Ended, limits: Constraints) -> list[Ask]:
        """What to ask of an answer; nothing of one that is too long to be judged as a whole.

        Where the request was not to go, a judge of it is not either: `limits` are the request's.
        """
        messages = ended.ask.request.messages
        conversation = "\n\n".join(f"[{message.role}]\n{message.text}" for message in messages)
        shown = len(conversation) + len(ended.text) + len(ended.served or "")
        if shown > self.settings.most_chars:
            return []
        prompts = self._way.prompts(conversation, ended)
        return [self._ask(ended, limits, *texts) for texts in prompts]

    async def rows(self, words: Sequence[str], ended: Ended) -> list[Row]:
        """What it said of an answer as scores; none where it can't be read."""
        source = f"judge:{self.settings.name}"
        return await self._way.rows(words, ended, source)

    def _ask(self, ended: Ended, limits: Constraints, system: str, user: str) -> Ask:
        settings = self.settings
        request = ChatRequest(
            (Message("system", system), Message("user", user)),
            max_tokens=settings.max_tokens,
            params={"temperature": 0},
        )
        tags = {"judge": settings.name, "judge_of": ended.decision_id}
        wishes = Wishes(
            tags=tags,
            cache="off",
            keep="none",
            max_latency_ms=settings.timeout_s * 1000,
            only_local=limits.only_local,
            require_tags=dict(limits.tags),
            privacy=limits.privacy,
        )
        return Ask(request, settings.expert, WIRE, self._key, wishes)


@dataclass(frozen=True, slots=True)
class Work:
    """What judges are at, and what became of it; it outlives the settings that they judge by."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    async def aclose(self) -> None:
        """Stop; what was not judged yet stays unscored."""
        await stop(self.tasks)


class Judging:
    """All judges. Lives on the event loop; nobody waits for it.

    Args:
        judges: Who judges.
        gates: Where fitted gates are.
        append: Takes rows for the ledger; never blocks.
        service: What the judges are asked through, as any request.
        uses: Counts what keeps the gateway from being closed.
        work: What goes on; its counts are of `judged`, `unread` (no score was said), `refused`
            (budget, limits, failed experts), `full` (too many waited) and `long` answers.
        most_waiting: Answers that wait to be judged, or are; more of them stay unscored.
        rng: What is sampled. Of its own, so that decisions stay the same with judges.
        limits: What the decision about a request was bound by, and so are judges of its answer.
    """

    def __init__(
        self,
        judges: Sequence[JudgeSettings],
        gates: Path,
        append: Callable[[Sequence[Row]], None],
        service: Service,
        uses: Uses,
        work: Work,
        most_waiting: int,
        rng: np.random.Generator,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._judges = [Judge(settings, gates) for settings in judges]
        self._append = append
        self._service = service
        self._uses = uses
        self._most_waiting = most_waiting
        self._rng = rng
        self._tasks = work.tasks
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._counts = work.counts

    def hear(self, ended: Ended) -> None:
        """Have a sample of the answers judged. Never waits."""
        if not ended.fresh or not ended.text or ended.ask.request.task != "chat":
            return
        for judge in self._judges:
            if judge.wants(ended, self._rng):
                self._begin(judge, ended)

    def _begin(self, judge: Judge, ended: Ended) -> None:
        if len(self._tasks) >= self._most_waiting:
            self._counts["full"] += 1
            return
        asks = judge.asks(ended, self._limits(ended.ask, ended.decision))
        if not asks:
            self._counts["long"] += 1
            return
        self._uses.begin()
        task = asyncio.get_running_loop().create_task(self._judge(judge, asks, ended))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._uses.end()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a judge failed", exc_info=error)

    async def _judge(self, judge: Judge, asks: Sequence[Ask], ended: Ended) -> None:
        async with self._room:
            try:
                words = [await self._said(ask, judge.settings.timeout_s) for ask in asks]
            except (GatewayError, ExpertError, RoutingError, TimeoutError) as error:
                _log.info("judge %s gave no score: %s", judge.settings.name, error)
                self._counts["refused"] += 1
                return
        rows = await judge.rows(words, ended)
        self._counts["judged" if rows else "unread"] += 1
        if rows:
            self._append(rows)

    async def _said(self, ask: Ask, timeout_s: float) -> str:
        with anyio.fail_after(timeout_s):
            answer = await self._service.answer(ask)
            try:
                async with aclosing(answer.events()) as events:
                    return (await collect(events)).text
            finally:
                with anyio.CancelScope(shield=True):
                    await answer.aclose()
