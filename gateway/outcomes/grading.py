"""Grades answers in threads of its own: nobody waits for a grade, and a busy grader drops some."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from eval.graders.base import Check
from eval.graders.checks import grade
from gateway.errors import LedgerError
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Scored

_log = logging.getLogger(__name__)
_THREADS = 2


class Job(NamedTuple):
    """One answer and what it is graded with."""

    scored: Scored
    text: str
    check: Check
    objective: str


class Grading:
    """A bounded queue, and threads that begin with the first job.

    Args:
        append: Takes rows for the ledger; never blocks, from any thread.
        most_waiting: Jobs that wait before further ones are left ungraded.
    """

    def __init__(self, append: Callable[[Sequence[Row]], None], most_waiting: int) -> None:
        self._append = append
        self._jobs: queue.Queue[Job | None] = queue.Queue(most_waiting)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closing = False
        self._counts: Counter[str] = Counter()

    def counts(self) -> Mapping[str, float]:
        """Answers so far by what became of them: `graded`, `unable` (no score) or `full`."""
        with self._lock:
            return dict(self._counts)

    @property
    def waiting(self) -> int:
        """Jobs that are not done yet."""
        return self._jobs.unfinished_tasks

    def submit(self, job: Job) -> None:
        """Have it graded soon, or never if too many wait. Never blocks."""
        if self._closing:
            return
        while len(self._threads) < _THREADS:
            name = f"grader-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._count("full")

    def close(self) -> None:
        """Grade what waits, then stop; takes as long as that does."""
        self._closing = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._grade(job)
            except Exception:  # noqa: BLE001 - see below
                # One answer that nobody foresaw must not end the grading of all others.
                _log.exception("decision %s could not be graded", job.scored.decision_id)
                self._count("unable")
            self._jobs.task_done()

    def _grade(self, job: Job) -> None:
        given = grade(job.check, job.text)
        if given.score is None:
            _log.info("decision %s has no grade: %s", job.scored.decision_id, given.reason)
            self._count("unable")
            return
        source = f"grader:{job.check.kind}"
        row = job.scored.row(job.objective, given.score, source, given.reason)
        try:
            self._append([row])
        except LedgerError:
            self._count("unable")
        else:
            self._count("graded")

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1
