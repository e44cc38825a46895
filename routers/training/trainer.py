"""One trainer for every parametric head: seeded, deterministic, on one thread.

A head is a pure function `head(weights, inputs) -> logits (B, A)` over named arrays, not a module
of torch: what was trained is a dictionary of numpy arrays, so it is stored as any estimator's
state and predicts without torch. A new estimator does four things::

    examples = Examples.of({"vectors": features.vectors_ND}, outcomes, table.groups)
    start = {"slope": np.zeros((D, A), np.float32), "offset": logits_of_means_A}
    result = train("mlp", head, start, examples, LOSSES["bce"], rng=rng)
    logits_NA = head(result.weights, {"vectors": features.vectors_ND})     # numpy again

* `inputs` may hold any arrays of leading axis N (token ids, entity ids ...); whole numbers become
  int64 tensors, all else float32. What is the same for every row (an adjacency, descriptions) the
  head closes over, made a tensor by `tensor(array)`, or stands among the weights as `frozen`.
* A loss is `loss(logits_BA, batch) -> scalar tensor` (see `routers.training.losses`); a regulariser
  has a `weight` and `start(everything) -> (TrainingStep -> scalar tensor)` (see `.regularisers`).
* Heads that need torch beyond operators call `torch_for("...")` inside the function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.estimators.folds import group_folds, others
from routers.training.batches import (
    VECTORS,
    Array,
    Examples,
    Head,
    Rows,
    Tensors,
    TrainingStep,
    Weights,
    tensor,
    torch_for,
)
from routers.training.losses import Loss
from routers.training.regularisers import Penalty, Regulariser, noisy

if TYPE_CHECKING:
    from torch import Tensor

_STEPS_AN_EPOCH = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """How fast and how long.

    Attributes:
        epochs: The most passes over the data.
        patience: Passes without a better validation loss after which training ends.
        blind_epochs: Passes when there is nothing to validate on (fewer than two groups).
        batch: The most rows of one step; small tables take smaller ones, for 8 steps a pass.
        smallest_batch: The fewest rows of one step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW, on matrices only.
        noise: Standard deviation of what is added to the unit-length "vectors" at each step,
            as the length of the whole perturbation; 0 adds nothing.
        held_out: One part in so many is validated on.
        memory: How much of a running mean of the weights each step keeps, in [0, 1). The mean is
            what is validated and kept: it wavers less than the weights themselves. 0: no mean.
    """

    epochs: int = 60
    patience: int = 5
    blind_epochs: int = 10
    batch: int = 512
    smallest_batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    noise: float = 0.0
    held_out: int = 10
    memory: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TrainedWeights:
    """What came out.

    Attributes:
        weights: By name, float32; those of the pass with the best validation loss.
        held_out: Rows that were validated on and never trained on; empty when there were none.
        losses: Validation loss before the first pass and after each; empty like `held_out`.
    """

    weights: Weights
    held_out: Rows
    losses: tuple[float, ...]


def train(
    what: str,
    head: Head,
    weights: Weights,
    examples: Examples,
    loss: Loss,
    *,
    rng: np.random.Generator,
    schedule: Schedule | None = None,
    regularisers: Sequence[Regulariser] = (),
    frozen: Collection[str] = (),
) -> TrainedWeights:
    """Fit `head` to `examples` with AdamW and stop when held-out groups get no better.

    Args:
        what: Who trains, for the message when torch is missing.
        head: Weights and inputs to logits.
        weights: Where to start, by name.
        examples: What to learn from. Cells of weight 0 teach nothing.
        loss: What to minimise; also what is validated, alone.
        rng: The only source of chance. No global generator is used or changed.
        schedule: How fast and how long.
        regularisers: Added to the loss; those of weight 0 are as if they weren't there.
        frozen: Names of weights that stay as they are.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = torch_for(what)
    with one_thread(torch):
        run = _Run(head, loss, schedule or Schedule(), torch.Generator())
        run.generator.manual_seed(int(rng.integers(2**62)))
        return run.fit(
            weights, examples, [each for each in regularisers if each.weight], frozen, rng
        )


@contextmanager
def one_thread(torch: Any) -> Iterator[None]:
    """Torch works on a single thread in here, so that sums come out the same to the last digit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    head: Head
    loss: Loss
    schedule: Schedule
    generator: Any

    def fit(
        self,
        start: Weights,
        examples: Examples,
        regularisers: Sequence[Regulariser],
        frozen: Collection[str],
        rng: np.random.Generator,
    ) -> TrainedWeights:
        everything = Tensors.of(examples)
        folds = group_folds(examples.groups, self.schedule.held_out, rng)
        held_out = folds[0] if folds else np.array([], dtype=np.intp)
        known = everything.take(tensor(others(held_out, len(examples))))
        unseen = everything.take(tensor(held_out)) if folds else None
        weights = {name: tensor(array) for name, array in start.items()}
        optimiser = self._optimiser(weights, frozen)
        mean = {name: values.detach().clone() for name, values in weights.items()}
        penalties = [(each.weight, each.start(known)) for each in regularisers]
        if unseen is None:
            for _ in range(self.schedule.blind_epochs):
                self._epoch(weights, mean, optimiser, known, penalties, rng)
            return TrainedWeights(_arrays(mean), held_out, ())
        losses = [self._validate(mean, unseen)]
        best = _arrays(mean)
        for _ in range(self.schedule.epochs):
            self._epoch(weights, mean, optimiser, known, penalties, rng)
            losses.append(self._validate(mean, unseen))
            if losses[-1] <= min(losses):
                best = _arrays(mean)
            if len(losses) - int(np.argmin(losses)) > self.schedule.patience:
                break
        return TrainedWeights(best, held_out, tuple(losses))

    def _optimiser(self, weights: Mapping[str, Tensor], frozen: Collection[str]) -> Any:
        torch = torch_for("an optimiser")
        learned = [values for name, values in weights.items() if name not in frozen]
        for values in learned:
            values.requires_grad_()
        kinds = [
            {
                "params": [values for values in learned if values.ndim > 1],
                "weight_decay": self.schedule.weight_decay,
            },
            {"params": [values for values in learned if values.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [kind for kind in kinds if kind["params"]], lr=self.schedule.learning_rate
        )

    def _epoch(
        self,
        weights: Mapping[str, Tensor],
        mean: Mapping[str, Tensor],
        optimiser: Any,
        known: Tensors,
        penalties: Sequence[tuple[float, Penalty]],
        rng: np.random.Generator,
    ) -> None:
        size = max(
            min(self.schedule.batch, len(known) // _STEPS_AN_EPOCH), self.schedule.smallest_batch
        )
        order_N = tensor(rng.permutation(len(known)))
        for first in range(0, len(known), size):
            places_B = order_N[first : first + size]
            batch = self._perturbed(known.take(places_B))
            logits_BA = self.head(weights, batch.inputs)
            total = self.loss(logits_BA, batch)
            step = TrainingStep(
                batch, known, places_B, weights, self.head, logits_BA, self.generator
            )
            for weight, penalty in penalties:
                total = total + weight * penalty(step)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            for name, values in mean.items():
                values.lerp_(weights[name].detach(), 1 - self.schedule.memory)

    def _perturbed(self, batch: Tensors) -> Tensors:
        if not self.schedule.noise:
            return batch
        return batch.with_inputs(
            vectors=noisy(batch.inputs[VECTORS], self.schedule.noise, self.generator)
        )

    def _validate(self, weights: Mapping[str, Tensor], unseen: Tensors) -> float:
        torch = torch_for("validation")
        total = 0.0
        with torch.no_grad():
            for rows_B in torch.arange(len(unseen)).split(self.schedule.batch):
                batch = unseen.take(rows_B)
                total += float(self.loss(self.head(weights, batch.inputs), batch)) * len(rows_B)
        return total / len(unseen)


def _arrays(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: values.numpy().copy() for name, values in weights.items()}
