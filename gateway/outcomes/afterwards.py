"""Who hears of an answer that has ended, so as to score it; nobody does, until it is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import anyio.to_thread
import numpy as np

from eval.graders.checks import parse_check
from eval.graders.code import CodeCheck
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Ended, Hear, Hearing, Limits
from gateway.outcomes.grading import Grading, Job
from gateway.outcomes.implicit import Implicit
from gateway.outcomes.judging import WIRE, Judging, Work
from gateway.pool.verifying import bound
from gateway.settings.outcomes import GraderSettings
from gateway.settings.root import Settings
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.service import Service
    from gateway.state import Uses

Append = Callable[[Sequence[Row]], None]


class Scoring(NamedTuple):
    """What grades and judges, and goes on over a reload."""

    grading: Grading
    judged: Work

    @classmethod
    def of(cls, settings: Settings, append: Append, metrics: Metrics) -> Self:
        """Nothing runs until there is something to score."""
        grading, judged = Grading(append, settings.outcomes.most_waiting), Work()
        for name, text, read in (
            ("grades", "Answers by what became of their grade.", grading.counts),
            ("judgements", "Answers by what became of their judgement.", lambda: judged.counts),
        ):
            metrics.gauge(name, text, _copy(read), "result", grows=True)
        return cls(grading, judged)

    async def aclose(self) -> None:
        """Grade what waits; what is being judged stays unscored."""
        await self.judged.aclose()
        await anyio.to_thread.run_sync(self.grading.close)


class Afterwards:
    """Hands ended answers to graders, judges, and whoever reads what clients do.

    Args:
        settings: What is on.
        append: Takes rows for the ledger; never blocks.
        scoring: Where the work is done.
    """

    def __init__(self, settings: Settings, append: Append, scoring: Scoring) -> None:
        wanted = settings.outcomes
        self._settings = settings
        self._append = append
        self._scoring = scoring
        self._rng = np.random.default_rng()
        self._graders = [
            (grader, bound(parse_check(grader.check), wanted.code)) for grader in wanted.graders
        ]
        self._hears: list[Hear] = []
        self._judged: Hear | None = None
        self._shadows: Callable[[Ended], Mapping[str, float] | None] | None = None
        if wanted.implicit:
            self._hears.append(Implicit(append, wanted.implicit_within_s).hear)
        if wanted.graders:
            self._hears.append(self._grade)

    def judge_through(self, service: Service, limits: Limits, uses: Uses) -> None:
        """From now on ask the judges, by way of `service` and within each request's limits."""
        if judges := self._settings.judges:
            most, work = self._settings.outcomes.most_waiting, self._scoring.judged
            gates = self._settings.data_dir / "judges"
            judging = Judging(
                judges, gates, self._append, service, uses, work, most, self._rng, limits
            )
            self._judged = judging.hear
            self._hears.append(judging.hear)

    def shadow_through(self, offer: Callable[[Ended], Mapping[str, float] | None]) -> None:
        """From now on `offer` answers that can be graded, so that others are asked the same."""
        self._shadows = offer

    def check(self, ask: Ask) -> None:
        """Raises ApiError for a check that this request may not have run."""
        code = self._settings.outcomes.code
        if ask.wishes.check is None or ask.wishes.check.get("kind") != CodeCheck.kind:
            return
        param = "pointsman.check"
        if not code.enabled:
            raise ApiError(
                400, f"{param}: running code is off; see outcomes.code.enabled", param=param
            )
        if code.who == "admins" and not ask.key.admin:
            raise ApiError(403, f"{param}: only admins may have code run", param=param)

    @property
    def idle(self) -> bool:
        """Whether nobody hears of answers to requests without a check of their own."""
        return not self._hears

    def of(self, ask: Ask) -> Hearing | None:
        """Who hears of the answer to `ask`; None: nobody."""
        if ask.wire == WIRE or ask.request.task == "embed":
            return None
        if ask.wishes.check is not None:
            return Hearing(self._checked, self._shadows)
        if not self._hears:
            return None
        return Hearing(self._tell, self._shadows if self._may_score(ask) else None)

    def score(self, ended: Ended) -> None:
        """Have what a shadow call answered graded and judged, as if it had been delivered."""
        self._check(ended)
        self._grade(ended)
        if self._judged is not None:
            self._judged(ended)

    def _may_score(self, ask: Ask) -> bool:
        return self._judged is not None or any(_meant(of, ask) for of, _ in self._graders)

    def _tell(self, ended: Ended) -> None:
        for hear in self._hears:
            hear(ended)

    def _checked(self, ended: Ended) -> None:
        self._check(ended)
        self._tell(ended)

    def _check(self, ended: Ended) -> None:
        if (wished := ended.ask.wishes.check) is not None:
            check = bound(parse_check(wished), self._settings.outcomes.code)
            self._scoring.grading.submit(Job(ended.scored, ended.text, check, "quality"))

    def _grade(self, ended: Ended) -> None:
        for grader, check in self._graders:
            # What a shadow call gave is in the sample already.
            sampled = ended.shadow_id is not None or self._rng.random() < grader.rate
            if sampled and _meant(grader, ended.ask):
                job = Job(ended.scored, ended.text, check, grader.objective)
                self._scoring.grading.submit(job)


def _meant(grader: GraderSettings, ask: Ask) -> bool:
    return not grader.models or ask.model in grader.models


def _copy(read: Callable[[], Mapping[str, float]]) -> Callable[[], Mapping[str, float]]:
    return lambda: dict(read())
