"""What a head learns from: arrays with one row per query, and the part of them seen at one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from routers.errors import MissingExtraError
from routers.estimators.observed import Observed
from routers.records import Floats

if TYPE_CHECKING:
    from torch import Generator, Tensor

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
Weights = Mapping[str, Array]
VECTORS = "vectors"


def torch_for(what: str) -> Any:
    """The module torch.

    Raises:
        MissingExtraError: It is not installed; `what` says who needs it.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(what, "torch") from error
    return torch


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Everything that may be learned from.

    Attributes:
        inputs: What the head looks at, by name, each of leading axis N. The text's vector is
            called "vectors" where a regulariser is to find it.
        score_NA: Scores in [0, 1]; any number where unobserved.
        weight_NA: How much each cell counts; 0 where unobserved, so that it teaches nothing.
        groups: Group of each row, length N: no group is on both sides of the validation split.
    """

    inputs: Mapping[str, Array]
    score_NA: Floats
    weight_NA: Floats
    groups: tuple[str, ...]

    @classmethod
    def of(
        cls, inputs: Mapping[str, Array], outcomes: Observed, groups: tuple[str, ...]
    ) -> Examples:
        """What `observed` took out of a table, beside the inputs of the same rows."""
        return cls(inputs, outcomes.score_NA, outcomes.weight_NA, groups)

    def __len__(self) -> int:
        return len(self.score_NA)


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """The same rows as float32 (whole numbers as int64) tensors.

    Attributes:
        rows_B: Which rows of the examples these are.
        inputs: By name, leading axis B.
        score_BA: Scores in [0, 1].
        weight_BA: How much each cell counts, >= 0.
    """

    rows_B: Tensor
    inputs: Mapping[str, Tensor]
    score_BA: Tensor
    weight_BA: Tensor

    @classmethod
    def of(cls, examples: Examples) -> Tensors:
        """All rows of `examples`."""
        rows_B = tensor(np.arange(len(examples)))
        inputs = {name: tensor(array) for name, array in examples.inputs.items()}
        return cls(rows_B, inputs, tensor(examples.score_NA), tensor(examples.weight_NA))

    def take(self, rows_B: Tensor) -> Tensors:
        """Those at the places `rows_B`, in that order."""
        inputs = {name: values[rows_B] for name, values in self.inputs.items()}
        return Tensors(self.rows_B[rows_B], inputs, self.score_BA[rows_B], self.weight_BA[rows_B])

    def with_inputs(self, **inputs: Tensor) -> Tensors:
        """The same outcomes beside other inputs, say noisy ones."""
        return Tensors(self.rows_B, {**self.inputs, **inputs}, self.score_BA, self.weight_BA)

    def __len__(self) -> int:
        return len(self.score_BA)


Head = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""(weights, inputs) to logits, (B, A). Written with operators, it serves torch and numpy alike."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingStep:
    """One step of training, as regularisers see it.

    Attributes:
        batch: The rows of this step.
        everything: All rows that are trained on; `batch` are some of them.
        places_B: Where in `everything` the rows of `batch` are.
        weights: The head's weights as they are now.
        head: What turns weights and inputs into logits.
        logits_BA: What it said of `batch`.
        generator: The only source of chance.
    """

    batch: Tensors
    everything: Tensors
    places_B: Tensor
    weights: Mapping[str, Tensor]
    head: Head
    logits_BA: Tensor
    generator: Generator

    def logits(self, batch: Tensors) -> Tensor:
        """What the head says, with its present weights, of other rows or other inputs."""
        return self.head(self.weights, batch.inputs)


def tensor(array: Array) -> Tensor:
    """A tensor of its own: float32, or int64 for whole numbers."""
    torch = torch_for("a tensor")
    whole = np.issubdtype(array.dtype, np.integer)
    return torch.from_numpy(np.array(array, dtype=np.int64 if whole else np.float32))
