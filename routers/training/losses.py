"""What a head may be asked to minimise. Cells of weight 0 teach nothing, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from routers.training.batches import Tensors, torch_for

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", Tensors], "Tensor"]
"""(logits_BA, batch) to a scalar."""

_TINY = 1e-12
_IMPOSSIBLE = -1e9
_TIE = 1e-5
_WORD = 2**32 - 1


def multi_hot(logits_BA: Tensor, batch: Tensors) -> Tensor:
    r"""Binary cross-entropy of every observed cell: each expert that was right is a positive.

    .. math:: -\frac{1}{\sum w} \sum_{ba} w_{ba} [y \log \sigma(l) + (1 - y) \log (1 - \sigma(l))]

    Scores between 0 and 1 are targets as they are.

    Source: the multi-hot correctness mask of DriftMoE (Aspis et al., 2025).
    """
    torch = torch_for("a loss")
    losses_BA = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_BA, batch.score_BA, reduction="none"
    )
    return _mean(losses_BA, batch.weight_BA)


def squared(logits_BA: Tensor, batch: Tensors) -> Tensor:
    """Weighted mean squared error of σ(logit): the loss of RouterBench's regressors."""
    return _mean((logits_BA.sigmoid() - batch.score_BA) ** 2, batch.weight_BA)


@dataclass(frozen=True, slots=True)
class SoftTargets:
    r"""KL divergence to a distribution over experts that prefers those with higher scores.

    .. math:: p^*(a) \propto \exp(y_a / \tau), \quad
        \mathrm{KL}(p^* \| \mathrm{softmax}(l))

    Both distributions are over the experts observed on the row; a row with fewer than two teaches
    nothing, others weigh the mean weight of their observed cells.

    Args:
        temperature: τ > 0. Towards 0 it is the cross-entropy with the best expert (equals share);
            towards infinity all experts are wanted alike.

    Source: AgentRouter (2025), which learns agents' weights from soft targets.
    """

    temperature: float = 0.2

    def __call__(self, logits_BA: Tensor, batch: Tensors) -> Tensor:
        seen_BA = batch.weight_BA > 0
        wanted_BA = _masked(batch.score_BA / self.temperature, seen_BA).softmax(dim=1)
        told_BA = _masked(logits_BA, seen_BA).log_softmax(dim=1)
        # 0 · log 0 is 0: no target, no term.
        losses_BA = wanted_BA * (wanted_BA.clamp_min(_TINY).log() - told_BA)
        losses_B = losses_BA.masked_fill(~seen_BA, 0.0).sum(dim=1)
        return _mean(losses_B, _row_weights(batch, seen_BA.sum(dim=1) > 1))


@dataclass(frozen=True, slots=True)
class Contrast:
    r"""InfoNCE between the best experts of a row and its worst ones.

    .. math:: \sum_{i \in \text{top } k} -\log
        \frac{e^{s_i}}{e^{s_i} + \sum_{j \in \text{last } k} e^{s_j}}

    A top expert must have scored above 0, a last one at most .5, and nobody is both. Rows without
    such a pair weigh nothing. Which of equals is the better one changes from row to row, else
    whoever comes first would seem to be good at what is easy. Logits are similarities over a
    temperature: cos(z, k_a) / t.

    Args:
        count: k >= 1.

    Source: the sample-LLM loss of RouterDC (Chen et al., "RouterDC: Query-Based Router by Dual
    Contrastive Learning", 2024).
    """

    count: int = 3
    least_good: float = 0.0
    most_bad: float = 0.5

    def __call__(self, logits_BA: Tensor, batch: Tensors) -> Tensor:
        seen_BA = batch.weight_BA > 0
        rank_BA = batch.score_BA + _TIE * _scattered(batch)
        # Unobserved experts come last among the best, and last among the worst.
        best_BK = _masked(rank_BA, seen_BA).topk(self._of(batch)).indices
        worst_BK = _masked(-rank_BA, seen_BA).topk(self._of(batch)).indices
        good_BK = (seen_BA & (batch.score_BA > self.least_good)).gather(1, best_BK)
        bad_BK = (seen_BA & (batch.score_BA <= self.most_bad)).gather(1, worst_BK)
        both_BKK = best_BK[:, :, None] == worst_BK[:, None, :]
        bad_BKK = bad_BK[:, None, :] & ~both_BKK
        against_BKK = _masked(
            logits_BA.gather(1, worst_BK)[:, None, :].expand_as(both_BKK), bad_BKK
        )
        chosen_BK = logits_BA.gather(1, best_BK)
        rivals_BK = chosen_BK.logaddexp(against_BKK.logsumexp(dim=2))
        told_BK = good_BK & bad_BKK.any(dim=2)
        losses_B = (rivals_BK - chosen_BK).masked_fill(~told_BK, 0.0).sum(dim=1)
        return _mean(losses_B, _row_weights(batch, told_BK.any(dim=1)))

    def _of(self, batch: Tensors) -> int:
        return min(self.count, int(batch.score_BA.shape[1]))


def pairwise(logits_BA: Tensor, batch: Tensors) -> Tensor:
    r"""Bradley–Terry likelihood of who beat whom: -log σ(l_winner − l_loser), by the margin.

    Every two experts observed on a row with different scores are a battle. It weighs the
    difference of the scores times both weights.

    Source: the matrix factorisation of RouteLLM (Ong et al., "RouteLLM: Learning to Route LLMs
    with Preference Data", 2024), which has two experts and one winner.
    """
    torch = torch_for("a loss")
    margin_BAA = batch.score_BA[:, :, None] - batch.score_BA[:, None, :]
    both_BAA = batch.weight_BA[:, :, None] * batch.weight_BA[:, None, :]
    ahead_BAA = logits_BA[:, :, None] - logits_BA[:, None, :]
    return _mean(torch.nn.functional.softplus(-ahead_BAA), both_BAA * margin_BAA.clamp_min(0.0))


LOSSES: Mapping[str, Loss] = {
    "bce": multi_hot,
    "contrast": Contrast(),
    "mse": squared,
    "pairwise": pairwise,
    "soft": SoftTargets(),
}
"""What settings call them."""


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    # Without any weight it is 0, and so is its gradient.
    return (losses * weights).sum() / weights.sum().clamp_min(_TINY)


def _masked(values: Tensor, kept: Tensor) -> Tensor:
    return values.masked_fill(~kept, _IMPOSSIBLE)


def _row_weights(batch: Tensors, kept_B: Tensor) -> Tensor:
    count_B = (batch.weight_BA > 0).sum(dim=1).clamp_min(1)
    return batch.weight_BA.sum(dim=1) / count_B * kept_B


def _scattered(batch: Tensors) -> Tensor:
    """Numbers in [0, 1) that follow from row and column and from nothing else."""
    torch = torch_for("a loss")
    columns_A = torch.arange(batch.score_BA.shape[1])
    mixed_BA = (batch.rows_B[:, None] * 0x9E3779B1 + columns_A * 0x85EBCA77) & _WORD
    for factor in (0x2C1B3C6D, 0x297A2D39):
        mixed_BA = ((mixed_BA ^ (mixed_BA >> 15)) * factor) & _WORD
    return (mixed_BA ^ (mixed_BA >> 15)) / (_WORD + 1)
