"""Requests that come in the same turn of the event loop are decided together, at its end.

A quick router answers on the loop: a thread would cost more than the estimate, and together the
memory of an estimator is read once for all. How quick a router is, is measured; until that is
known, and if it is slow, each request is decided by itself in one of a few threads, and has
`within_s`. What no thread is free for has failed then, too, so a router that hangs can't pile up
threads that hang.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from math import inf
from typing import Any

import anyio
import numpy as np

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from experts.record import record
from gateway.execution.health import Health
from routers.base import Policy
from routers.candidates import Expected
from routers.eligible import Cards, Constraints
from routers.errors import NoEligibleExpertError, RoutingError
from routers.records import FAILED, Decision, Preference
from routers.router import UNTRAINED_VERSION, Router, untrained_router
from routers.waiting import NO_WAITS

_log = logging.getLogger(__name__)
Then = Callable[[Decision | Exception], None]
"""Hears who answers, or why nobody can."""

_QUICK_S = 0.002
_BLOCKS_S = 0.01
"""One that takes so long without using the processor waits for something else."""
_MOST_THREADS = 4
_TURN_S = 0.004
"""Longest that the loop is kept from everything else by estimates, as far as can be foreseen."""
_LEAST_S = 0.0001
_MOST_TOGETHER = 32
_MOST_PACES = 100
_LONGEST_ON_LOOP = 256 * 1024
_NO_HEALTH: Mapping[str, str] = {}


@record()
class Case:
    """One request that a router is to decide; see `Router.decide`.

    Attributes:
        by: The policy that decides, None for the router's own.
        settle: Put into the decision.
        flags: Added to the decision's.
        explore: Whether chance may decide.
    """

    request: ChatRequest
    policy: str
    preference: Preference
    constraints: Constraints
    uniform: float
    by: Policy | None = None
    settle: Callable[[float], None] | None = None
    flags: tuple[str, ...] = ()
    explore: bool = True


class Batcher:
    """Decides cases, several at a time, on the loop or off it.

    Args:
        cards: The pool.
        health: Who is out of service.
        default_expert: Who answers when a router fails; None: as an untrained router decides.
        within_s: A router in a thread that is later than this has failed.
        clock: Seconds, never going back.
        work_clock: Seconds that the thread has worked.
        waits_s: Expert to seconds until a call of it can begin, where that is not at once.
    """

    def __init__(
        self,
        cards: Sequence[ExpertCard],
        health: Health,
        default_expert: str | None,
        within_s: float,
        clock: Callable[[], float] = time.perf_counter,
        work_clock: Callable[[], float] = time.thread_time,
        waits_s: Callable[[], Mapping[str, float]] = lambda: NO_WAITS,
    ) -> None:
        self._cards = Cards.of(cards)
        self._health = health
        self._default_expert = default_expert
        self._within_s = within_s
        self._clock = clock
        self._work_clock = work_clock
        self._waits_s = waits_s
        self._waiting: dict[Router, list[tuple[Case, Then]]] = {}
        self._paces: dict[tuple[str, str], _Pace] = {}
        self._apart: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "deciding")
        self._overdue: set[Future[Any]] = set()

    def submit(self, router: Router, case: Case, then: Then) -> None:
        """Have `case` decided; `then` is called once, on the running event loop, after this turn.

        A router that fails costs a flag: the default expert answers. An exception that reaches
        `then` says that nobody can serve the request, or that its wishes make no sense.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._decide_waiting)
        self._waiting.setdefault(router, []).append((case, then))

    def _decide_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for router, cases in waiting.items():
            pace = self._pace(router)
            now = cases[: pace.together]
            for case, then in cases[pace.together :]:
                self.submit(router, case, then)
            self._decide(router, pace, now)

    def _pace(self, router: Router) -> _Pace:
        kind = (router.name, router.version)
        pace = self._paces.get(kind)
        if pace is None:
            if len(self._paces) >= _MOST_PACES:
                self._paces.clear()
            known = router.version == UNTRAINED_VERSION
            pace = self._paces[kind] = _Pace(known=known, slow=router.slow)
        return pace

    def _decide(self, router: Router, pace: _Pace, cases: Sequence[tuple[Case, Then]]) -> None:
        out = self._health.reasons()
        texts, here = [], []
        for case, then in cases:
            text = case.request.text
            if pace.quick and len(text) <= _LONGEST_ON_LOOP:
                texts.append(text)
                here.append((case, then))
            else:
                self._decide_apart(router, pace, case, then, out)
        if not here:
            return
        found = self._expectations(router, pace, texts)
        for (case, then), expected in zip(here, found, strict=True):
            _tell(then, self._answer(router, case, out, expected))

    def _decide_apart(
        self, router: Router, pace: _Pace, case: Case, then: Then, out: Mapping[str, str]
    ) -> None:
        task = asyncio.get_running_loop().create_task(
            self._answer_apart(router, pace, case, then, out)
        )
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)

    async def _answer_apart(
        self, router: Router, pace: _Pace, case: Case, then: Then, out: Mapping[str, str]
    ) -> None:
        if len(self._overdue) >= _MOST_THREADS:
            late = TimeoutError("all that it was asked before is overdue")
            _tell(then, self._answer(router, case, out, late))
            return

        def answer() -> Decision | Exception:
            (expected,) = self._expectations(router, pace, [case.request.text])
            return self._answer(router, case, out, expected)

        work = self._threads.submit(answer)
        try:
            with anyio.fail_after(self._within_s):
                found = await asyncio.wrap_future(work)
        except TimeoutError as error:
            if work.running():
                # It can't be stopped, and takes its thread with it for as long as it wants.
                self._overdue.add(work)
                work.add_done_callback(self._overdue.discard)
            found = self._answer(router, case, out, error)
        _tell(then, found)

    def _expectations(
        self, router: Router, pace: _Pace, texts: Sequence[str]
    ) -> Sequence[Expected | Exception]:
        began, worked = self._clock(), self._work_clock()
        found = expectations(router, texts)
        pace.took((self._clock() - began) / len(texts), (self._work_clock() - worked) / len(texts))
        return found

    def _answer(
        self, router: Router, case: Case, out: Mapping[str, str], expected: Expected | Exception
    ) -> Decision | Exception:
        failure = expected
        if not isinstance(failure, Exception):
            try:
                return self._decided(router, case, out, failure)
            except NoEligibleExpertError as error:
                return error
            except Exception as error:  # noqa: BLE001 - an answer matters more than the reason
                failure = error
        # Whatever is wrong with a learned router, the request can still be answered.
        _log.error("router %s@%s failed", router.name, router.version, exc_info=failure)
        try:
            # Its policy may be what is wrong.
            case = replace(case, by=None)
            fallback = self._decided(untrained_router(router.name), case, out, {})
        except RoutingError as error:
            return error
        return self._default(fallback)

    def _decided(
        self, router: Router, case: Case, out: Mapping[str, str], expected: Expected
    ) -> Decision:
        try:
            return self._drawn(router, case, out, expected)
        except NoEligibleExpertError:
            # Whoever could serve it is out of service: waiting or a 503 is for the execution.
            if not out:
                raise
        return self._drawn(router, case, _NO_HEALTH, expected)

    def _drawn(
        self, router: Router, case: Case, out: Mapping[str, str], expected: Expected
    ) -> Decision:
        decision = router.decide(
            case.request,
            self._cards,
            preference=case.preference,
            policy_name=case.policy,
            constraints=case.constraints,
            unhealthy=out,
            uniform=case.uniform,
            expected=expected,
            policy=case.by,
            explore=case.explore,
            waits_s=self._waits_s(),
        )
        if case.settle is None and not case.flags:
            return decision
        return replace(decision, settle=case.settle, flags=(*decision.flags, *case.flags))

    def _default(self, decision: Decision) -> Decision:
        """The same eligible experts, but the configured default one answers."""
        experts = decision.candidates.experts
        wanted = self._default_expert
        chosen = experts.index(wanted) if wanted in experts else decision.chosen
        certain = np.zeros(len(experts))
        certain[chosen] = 1.0
        return replace(
            decision,
            chosen=chosen,
            probabilities_A=certain,
            flags=(*decision.flags, FAILED),
        )


class _Pace:
    """How long a router estimates for one request, as it was measured; unknown is slow.

    What counts is work, for a thread is easily interrupted, and of late the least. One that waits
    must not do so on the loop, and proves itself anew. What is known to be slow for long texts
    proves nothing by short ones.
    """

    __slots__ = ("_each_s", "_slow")

    def __init__(self, known: bool, slow: bool) -> None:
        self._each_s = 0.0 if known else inf
        self._slow = slow

    @property
    def quick(self) -> bool:
        return not self._slow and self._each_s <= _QUICK_S

    @property
    def together(self) -> int:
        """How many to decide in one turn."""
        if not self.quick:
            return _MOST_TOGETHER
        return min(int(_TURN_S / max(self._each_s, _LEAST_S)), _MOST_TOGETHER)

    def took(self, each_s: float, work_s: float) -> None:
        """Estimates were made, for so many seconds a request, and with so much work."""
        if each_s > _BLOCKS_S:
            self._each_s = max(each_s, work_s)
        else:
            self._each_s = min(work_s, 1.25 * max(self._each_s, _LEAST_S))


def expectations(router: Router, texts: Sequence[str]) -> Sequence[Expected | Exception]:
    """What is expected for each text, or why that is not known."""
    try:
        return router.expectations(texts)
    except Exception as error:  # noqa: BLE001 - whatever it was, others must not suffer from it
        if len(texts) == 1:
            return [error]
    return [found for text in texts for found in expectations(router, [text])]


def _tell(then: Then, found: Decision | Exception) -> None:
    try:
        then(found)
    except Exception:  # noqa: BLE001 - others wait to be told in the same turn
        _log.exception("a decision could not be passed on")
