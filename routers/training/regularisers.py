"""What may be added to a loss so that a head is smoother, steadier or fairer in its choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sklearn.cluster import KMeans

from routers.training.batches import VECTORS, Head, Tensors, TrainingStep, torch_for

if TYPE_CHECKING:
    from torch import Generator, Tensor

Penalty = Callable[[TrainingStep], "Tensor"]


class Regulariser(Protocol):
    """A term of the loss. It weighs `weight` >= 0; at 0 training is as if it weren't there."""

    @property
    def weight(self) -> float: ...

    def start(self, everything: Tensors) -> Penalty:
        """The penalty for one training run on these rows; what it must remember is in there."""
        ...


def noisy(vectors_BD: Tensor, length: float, generator: Generator) -> Tensor:
    """Vectors with Gaussian noise whose expected squared length is about `length` squared."""
    torch = torch_for("noise")
    noise_BD = torch.randn(vectors_BD.shape, generator=generator)
    return vectors_BD + noise_BD * (length / vectors_BD.shape[1] ** 0.5)


@dataclass(frozen=True, slots=True)
class Neighbours:
    r"""Choices like those of near queries on which the choice was right.

    .. math:: \frac1B \sum_i \sum_{j \in kNN(i)} w_{ij} \, ok_j \, \|\pi(x_i) - \pi(x_j)\|^2

    π is the softmax of the logits, ok_j whether the expert that π(x_j) prefers was observed there
    with a score of at least .5, and w a Gaussian of the distance, summing to 1 over the k.

    Args:
        weight: λ >= 0.
        count: k >= 1 nearest rows by the cosine of their "vectors".

    Source: RoMA ("Routing manifold alignment", 2025), which pulls routing weights towards those
    of successful neighbours.
    """

    weight: float
    count: int = 8

    def start(self, everything: Tensors) -> Penalty:
        near_NK, share_NK = _neighbours(everything.inputs[VECTORS], self.count)

        def penalty(step: TrainingStep) -> Any:
            near_BK = near_NK[step.places_B]
            if not near_BK.numel():
                return step.logits_BA.sum() * 0
            around = everything.take(near_BK.flatten())
            choice_FA = step.logits(around).softmax(dim=1)
            chosen_F1 = choice_FA.argmax(dim=1, keepdim=True)
            right_FA = (around.weight_BA > 0) & (around.score_BA >= 0.5)
            right_BK = right_FA.gather(1, chosen_F1).view(near_BK.shape)
            apart_BKA = step.logits_BA.softmax(dim=1)[:, None] - choice_FA.view(*near_BK.shape, -1)
            pull_BK = share_NK[step.places_B] * right_BK
            return (pull_BK * (apart_BKA**2).sum(dim=2)).sum() / len(near_BK)

        return penalty


@dataclass(frozen=True, slots=True)
class Consistency:
    """The same choice for two noisy views of one query: symmetric KL, or squared error.

    Args:
        weight: >= 0.
        noise: Length of what is added to the unit-length "vectors"; about that of a paraphrase.
        kind: "kl" between the softmaxes of the logits, or "mse" between their sigmoids.

    Source: the routing-consistency term of Mixture of Thoughts (2025), there between two dropout
    views.
    """

    weight: float
    noise: float = 0.3
    kind: str = "kl"

    def start(self, everything: Tensors) -> Penalty:
        def penalty(step: TrainingStep) -> Any:
            vectors_BD = step.batch.inputs[VECTORS]
            one_BA, other_BA = (
                step.logits(
                    step.batch.with_inputs(vectors=noisy(vectors_BD, self.noise, step.generator))
                )
                for _ in range(2)
            )
            if self.kind == "mse":
                return ((one_BA.sigmoid() - other_BA.sigmoid()) ** 2).mean()
            one_BA, other_BA = one_BA.log_softmax(dim=1), other_BA.log_softmax(dim=1)
            # KL(p || q) + KL(q || p) in one.
            return ((one_BA.exp() - other_BA.exp()) * (one_BA - other_BA)).sum(dim=1).mean() / 2

        return penalty


@dataclass(frozen=True, slots=True)
class LoadBalance:
    r"""Load balance over the whole traffic, not over what happens to be in one batch.

    .. math:: A \sum_a f_a \, p_a

    p_a is the mean of softmax(logits) over the batch, f_a the share of the last `window` rows
    whose best expert was a. With a window of one batch it is the usual loss, which pulls batches
    of a single topic apart over all experts and so ends their specialisation.

    Args:
        weight: >= 0.
        window: Rows that are remembered, >= 1; a batch larger than it counts wholly.

    Source: "Demons in the Detail: On Implementing Load Balancing Loss for Training Specialized
    Mixture-of-Expert Models" (Qiu et al., 2025).
    """

    weight: float
    window: int = 4096

    def start(self, everything: Tensors) -> Penalty:
        torch = torch_for("load balance")
        recent: list[Tensor] = []

        def penalty(step: TrainingStep) -> Any:
            experts = step.logits_BA.shape[1]
            chosen_B = step.logits_BA.detach().argmax(dim=1)
            recent.append(chosen_B)
            while sum(map(len, recent)) - len(recent[0]) >= max(self.window, len(chosen_B)):
                recent.pop(0)
            counts_A = torch.bincount(torch.cat(recent), minlength=experts)
            share_A = counts_A / counts_A.sum()
            return experts * (share_A * step.logits_BA.softmax(dim=1).mean(dim=0)).sum()

        return penalty


@dataclass(frozen=True, slots=True)
class Clusters:
    r"""Queries of one cluster near each other, and far from those of other clusters.

    .. math:: -\log \frac{e^{\cos(e_i, e_+) / t}}{e^{\cos(e_i, e_+) / t} + \sum_{j=1}^{H}
        e^{\cos(e_i, e_j^-) / t}}

    For each row of the batch one of its cluster and H of other clusters, all drawn at random.

    Args:
        weight: >= 0.
        inside: (weights, inputs) to unit-length embeddings e, (B, H).
        count: How many k-means clusters of the "vectors", >= 2.
        temperature: t > 0.
        against: H >= 1.

    Source: the sample-sample loss of RouterDC (Chen et al., 2024).
    """

    weight: float
    inside: Head
    count: int = 16
    temperature: float = 1.0
    against: int = 3

    def start(self, everything: Tensors) -> Penalty:
        torch = torch_for("a contrast of clusters")
        vectors_ND = everything.inputs[VECTORS].numpy()
        count = min(self.count, len(vectors_ND))
        # Its own seed: which rows are alike is no matter of chance.
        means = KMeans(count, n_init=1, random_state=0).fit(vectors_ND)
        cluster_N = torch.from_numpy(means.labels_.astype(np.int64))
        order_N = cluster_N.argsort(stable=True)
        size_C = torch.bincount(cluster_N, minlength=count)
        first_C = size_C.cumsum(0) - size_C

        def penalty(step: TrainingStep) -> Any:
            cluster_B = cluster_N[step.places_B]
            if (size_C > 0).sum() < 2:
                return step.logits_BA.sum() * 0
            size_B, first_B = size_C[cluster_B], first_C[cluster_B]
            drawn_B = torch.rand(len(size_B), generator=step.generator)
            like_B = order_N[first_B + (drawn_B * size_B).long()]
            drawn_BH = torch.rand(len(size_B), self.against, generator=step.generator)
            # Counted from behind the row's own cluster, round and round.
            beyond_BH = (drawn_BH * (len(order_N) - size_B)[:, None]).long()
            unlike_BH = order_N[((first_B + size_B)[:, None] + beyond_BH) % len(order_N)]
            others_BF = torch.cat([like_B[:, None], unlike_BH], dim=1)
            around = everything.take(others_BF.flatten())
            own_BE = self.inside(step.weights, step.batch.inputs)
            their_BFE = self.inside(step.weights, around.inputs).view(*others_BF.shape, -1)
            alike_BF = (own_BE[:, None] * their_BFE).sum(dim=2) / self.temperature
            return -alike_BF.log_softmax(dim=1)[:, 0].mean()

        return penalty


def _neighbours(vectors_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest other rows of each row and their shares, both (N, K)."""
    torch = torch_for("neighbours")
    length_N1 = vectors_ND.norm(dim=1, keepdim=True).clamp_min(1e-12)
    unit_ND = vectors_ND / length_N1
    count = min(count, len(unit_ND) - 1)
    near, far = [], []
    for first, part_BD in enumerate(unit_ND.split(1024)):
        cosine_BN = part_BD @ unit_ND.T
        own_B = torch.arange(len(part_BD))
        cosine_BN[own_B, own_B + 1024 * first] = -torch.inf
        cosine_BK, near_BK = cosine_BN.topk(count)
        near.append(near_BK)
        far.append(2 - 2 * cosine_BK)
    far_NK = torch.cat(far).clamp_min(0.0)
    width = far_NK.mean().clamp_min(1e-12) if far_NK.numel() else 1.0
    return torch.cat(near), (-far_NK / width).softmax(dim=1)
