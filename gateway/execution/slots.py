"""How many calls an expert gets at once, and who is next when there are more."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

import anyio

from experts.errors import ExpertBusyError

_LATEST = 0.2
"""Weight of the latest turn in what turns take."""


class Slots:
    """Slots of each expert with a bounded queue that is fair between keys.

    Waiting calls are served key by key in turn, each key's own in order, so that one key with many
    calls delays another by one call at most. When the queue is full, a call of a key that has
    fewer waiting, by two at least, takes the place of the newest of the key that has the most.
    Lives on the event loop; only `acquire` waits.

    Args:
        limits: Slots by expert id; an expert that is not named has no limit.
        queue: Most calls that may wait for one expert.
        wait_s: Longest wait.
        before: Slots under other rules: experts whose own have not changed keep theirs, taken
            ones included. One that has another number now may get up to both for a while.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        queue: int = 100,
        wait_s: float = 10.0,
        before: Slots | None = None,
    ) -> None:
        self._queues = {name: _Queue(name, slots, queue, wait_s) for name, slots in limits.items()}
        for name, old in before._queues.items() if before else ():
            if name in self._queues and self._queues[name].rules == old.rules:
                self._queues[name] = old

    def limits(self, expert_id: str) -> bool:
        """Whether an expert has a limit at all."""
        return expert_id in self._queues

    def try_acquire(self, expert_id: str) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        queue = self._queues.get(expert_id)
        return True if queue is None else queue.try_acquire()

    async def acquire(self, expert_id: str, who: str) -> None:
        """Take a slot, in turn with the other keys.

        Raises:
            ExpertBusyError: The queue is full, or the wait was too long; no slot is taken.
        """
        queue = self._queues.get(expert_id)
        if queue is not None and not queue.try_acquire():
            await queue.wait(who)

    def release(self, expert_id: str) -> None:
        """Give a slot back: once for each that was taken."""
        queue = self._queues.get(expert_id)
        if queue is not None:
            queue.release()

    def borrow(self, expert_id: str, recall: Callable[[], None]) -> bool:
        """Take a slot if one is free and nobody waits for it, until somebody does.

        Args:
            expert_id: Whose.
            recall: Called once when another call wants it; `hand_back` must follow soon.
        """
        queue = self._queues.get(expert_id)
        return True if queue is None else queue.borrow(recall)

    def hand_back(self, expert_id: str, recall: Callable[[], None]) -> None:
        """Give back a slot that was borrowed with `recall`, recalled or not."""
        queue = self._queues.get(expert_id)
        if queue is not None:
            queue.hand_back(recall)

    def waits_s(self) -> Mapping[str, float]:
        """Expert to seconds that a further call is likely to wait, where others wait already."""
        return {name: queue.wait_s for name, queue in self._queues.items() if queue.waiting}

    def waiting(self, expert_id: str) -> int:
        """How many calls wait for a slot of this expert."""
        queue = self._queues.get(expert_id)
        return 0 if queue is None else queue.waiting


class _Queue:
    def __init__(self, name: str, slots: int, longest: int, wait_s: float) -> None:
        self.rules = (slots, longest, wait_s)
        self._name = name
        self._free = slots
        self._longest = longest
        self._wait_s = wait_s
        self._turns: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._borrowed: list[Callable[[], None]] = []
        self._turn_s = 0.0
        self._served_at = 0.0
        self.waiting = 0

    @property
    def wait_s(self) -> float:
        """Seconds that a further call is likely to wait, as turns came round lately."""
        return min(self.waiting * self._turn_s, self._wait_s)

    def borrow(self, recall: Callable[[], None]) -> bool:
        if not self.try_acquire():
            return False
        self._borrowed.append(recall)
        return True

    def hand_back(self, recall: Callable[[], None]) -> None:
        if recall in self._borrowed:
            self._borrowed.remove(recall)
        self.release()

    def try_acquire(self) -> bool:
        if self._free <= 0 or self.waiting:
            return False
        self._free -= 1
        return True

    def release(self) -> None:
        while self.waiting:
            turn = self._next()
            # One that gave up a moment ago may not have left the queue yet.
            if not turn.done():
                self._measure()
                turn.set_result(None)
                return
        self._free += 1
        self._served_at = 0.0

    def _measure(self) -> None:
        """A slot came free that was waited for: how long after the one before?"""
        now, before = time.monotonic(), self._served_at
        self._served_at = now
        if before:
            self._turn_s += _LATEST * (now - before - self._turn_s)

    async def wait(self, who: str) -> None:
        # One that is asked back comes soon: whoever wants it may wait for it in any case.
        recall = self._borrowed.pop(0) if self._borrowed else None
        if recall is None and self.waiting >= self._longest and not self._make_room(who):
            raise self._busy("its queue is full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.setdefault(who, deque()).append(turn)
        self.waiting += 1
        if recall is not None:
            recall()
        try:
            with anyio.move_on_after(self._wait_s):
                await turn
                return
        except asyncio.CancelledError:
            if _was_served(turn):
                self.release()
            raise
        finally:
            self._forget(who, turn)
        # Served and out of time in the same moment: the slot is ours all the same.
        if not _was_served(turn):
            raise self._busy(f"no slot came free within {self._wait_s:g} s")

    def _next(self) -> asyncio.Future[None]:
        who, turns = next(iter(self._turns.items()))
        turn = turns.popleft()
        self.waiting -= 1
        if turns:
            self._turns.move_to_end(who)
        else:
            del self._turns[who]
        return turn

    def _make_room(self, who: str) -> bool:
        """Send the newest call of the greediest key away, if it waits with more than `who` does."""
        greediest = max(self._turns, key=lambda key: len(self._turns[key]), default=None)
        if greediest is None:
            return False
        if len(self._turns[greediest]) <= len(self._turns.get(who, ())) + 1:
            return False
        turn = self._turns[greediest][-1]
        self._forget(greediest, turn)
        if not turn.done():
            turn.set_exception(self._busy("its queue is full"))
        return True

    def _forget(self, who: str, turn: asyncio.Future[None]) -> None:
        turns = self._turns.get(who)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        self.waiting -= 1
        if not turns:
            del self._turns[who]

    def _busy(self, why: str) -> ExpertBusyError:
        return ExpertBusyError(
            self._name, f"too many calls at once, {why}", retry_after_s=max(1.0, self._wait_s / 2)
        )


def _was_served(turn: asyncio.Future[None]) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None
