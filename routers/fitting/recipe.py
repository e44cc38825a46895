"""What a router is made of, in one word: `guarded:knn+static`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from routers.base import DescribedEstimator, Estimator, OnlineEstimator
from routers.estimators.calibrated import CalibratedEstimator
from routers.registry import (
    DEFAULT_ENCODER,
    DEFAULT_ESTIMATOR,
    check_known,
    encoder_names,
    estimator_names,
    make_estimator,
    make_wrapper,
    wrapper_names,
)

DEFAULT = "default"
"""The recipe of the router that is shipped."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """An estimator, what wraps it, and what makes vectors for it.

    Attributes:
        estimator: A name of `estimator_names`.
        encoder: A name of `encoder_names`.
        wrappers: Names of `wrapper_names`, outermost first.
    """

    estimator: str
    encoder: str = DEFAULT_ENCODER
    wrappers: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> Self:
        """The recipe that `[wrapper:...]estimator[+encoder]`, or `default`, stands for.

        Raises:
            RoutingError: A part of it is unknown; the message lists what exists.
        """
        made_of, plus, encoder = (DEFAULT_ESTIMATOR if text == DEFAULT else text).partition("+")
        *wrappers, estimator = made_of.split(":")
        check_known("estimator", estimator, estimator_names())
        if plus:
            check_known("encoder", encoder, encoder_names())
        for wrapper in wrappers:
            check_known("wrapper", wrapper, wrapper_names())
        return cls(estimator, encoder if plus else DEFAULT_ENCODER, tuple(wrappers))

    @property
    def learns_on(self) -> bool:
        """Whether the estimator takes in new rows: a curve fitted once would not follow it."""
        return isinstance(make_estimator(self.estimator), OnlineEstimator)

    def unfitted(
        self,
        *,
        calibrate: bool,
        descriptions: Mapping[str, str] | None = None,
        instructions: Mapping[str, str] | None = None,
    ) -> Estimator:
        """The estimator, to be fitted; what wraps it sees calibrated qualities, if asked for.

        Args:
            calibrate: Whether it is calibrated, unless it `learns_on`.
            descriptions: What the experts' cards say, for an estimator that goes by them.
            instructions: What was written of templates of requests, for the same.
        """
        made = make_estimator(self.estimator)
        if (descriptions or instructions) and isinstance(made, DescribedEstimator):
            made = made.described(descriptions or {}, instructions)
        if calibrate and not self.learns_on:
            made = CalibratedEstimator(made)
        for wrapper in reversed(self.wrappers):
            made = make_wrapper(wrapper, made)
        return made
