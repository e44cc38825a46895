"""Signals of a draft that were learned from outcomes, for the rules of cascades."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio

from experts.base import Call
from experts.compose.base import ChildRequest, Reply
from experts.compose.deferral.base import SignalResult
from experts.messages import ChatRequest
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.storage.state_files import load_state, save_state

SCORER = "answer scorer"


@dataclass(frozen=True, slots=True)
class ByScorer:
    """How right a draft looks to a scorer that learned from graded answers.

    Attributes:
        scorer: Fitted.
    """

    scorer: CrossFittedScorer

    @property
    def calls(self) -> float:
        return 0.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        return request

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        text = reply.text
        if not text:
            # Calls of tools alone, or nothing: it learned from texts.
            return SignalResult(None)
        # About a millisecond for each thousand words, which others should not wait for.
        return SignalResult(
            await anyio.to_thread.run_sync(self.scorer.score, request.text, text, reply.expert_id)
        )


def load_scorer(path: Path) -> CrossFittedScorer:
    """A scorer that `pointsman compose fit` wrote.

    Raises:
        ArtifactError: There is none at `path`, or it is damaged.
    """
    return CrossFittedScorer.from_state(load_state(SCORER, path))


def save_scorer(scorer: CrossFittedScorer, path: Path) -> str:
    """Write a scorer; returns the hash of its content."""
    return save_state(SCORER, scorer.state(), path)
