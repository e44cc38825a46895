"""What was learned of answers judges drafts while they are served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experts.cards import ExpertCard
from experts.compose.alone import answer_alone
from experts.compose.cascade import Cascade, Stage
from experts.compose.deferral.base import Deferral
from experts.compose.deferral.gates import Threshold
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Message
from gateway.pool.learned_signals import ByScorer, load_scorer, save_scorer
from routers.deferral.cross_fitted import CrossFittedScorer
from routers.deferral.scorer import Drafts


@pytest.fixture
def scored(tmp_path: Path) -> ByScorer:
    """Who hedges is wrong; written and read back."""
    words = ("It is 8.", "Perhaps, I am not sure, it might be 9.")
    drafts = Drafts(("How much is 7 + 1?",) * 40, words * 20, ("small",) * 40)
    score_N = np.tile([1.0, 0.0], 20)
    rng = np.random.default_rng(0)
    groups = [str(row) for row in range(40)]
    scorer, _ = CrossFittedScorer.fit(drafts, score_N, groups, rng, encoder="hashing")
    save_scorer(scorer, tmp_path / "judge.safetensors")
    return ByScorer(load_scorer(tmp_path / "judge.safetensors"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("draft", "answer"),
    [("It is 8.", "It is 8."), ("Perhaps, I am not sure, it might be 9.", "8"), ("", "8")],
)
async def test_what_looks_wrong_or_says_nothing_is_passed_on(
    draft: str, answer: str, scored: ByScorer
) -> None:
    small = ScriptedExpert(ExpertCard("small"), says(draft))
    large = ScriptedExpert(ExpertCard("large"), says("8"))
    rule = Deferral(scored, Threshold(0.5))
    cascade = Cascade(ExpertCard("both", composed=True), [Stage(small, rule)], large)
    request = ChatRequest((Message("user", "How much is 7 + 1?"),))
    completion, _ = await answer_alone(cascade, request)
    assert completion.text == answer
