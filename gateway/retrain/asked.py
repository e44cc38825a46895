"""Do people ask what they asked when the loop learned? Looked at in blocks, each of them once."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from sqlalchemy import Engine

from eval.drift.prompts import Vectors, pairs_of, shifted
from gateway.errors import ConfigError
from gateway.ledger.prompts import FirstPrompt, first_prompts
from gateway.retrain.watch import Drift
from gateway.routing.router_store import RouterStore
from gateway.settings.retrain import DriftSettings
from routers.errors import RoutingError
from routers.features import Featurizer

_log = logging.getLogger(__name__)
_BLOCKS = 8


class Looked(NamedTuple):
    """What a look at prompts found.

    Attributes:
        drift: The change, None where there is none.
        upto: Prompts before this time need not be looked at again.
    """

    drift: Drift | None
    upto: float


class PromptWatch:
    """Compares prompts with those before them, block after block.

    A block is so many prompts as can be compared with `prompts_reference` older ones; each is
    compared once, however often one looks, so that looking often raises no more alarms. The next
    block is compared with the newest before it: what changed without being found is the world then.

    Args:
        engine: The ledger.
        router: Its name.
        store: Where its versions are.
        rules: How many prompts are compared with, and how rare false alarms are.
    """

    def __init__(
        self, engine: Engine, router: str, store: RouterStore, rules: DriftSettings
    ) -> None:
        self._engine = engine
        self._router = router
        self._store = store
        self._rules = rules
        self._version = ""
        self._featurizer: Featurizer | None = None
        self._vectors: dict[str, Vectors] = {}

    def look(self, version: str, since: float) -> Looked:
        """Look at prompts since a time.

        Args:
            version: Of the router, whose encoder makes the vectors.
            since: Where the last look says to begin, seconds since 1970.
        """
        older = self._rules.prompts_reference
        block = pairs_of(older)
        prompts = first_prompts(self._engine, self._router, since, older + _BLOCKS * block)
        featurizer = self._encoder(version) if len(prompts) > older else None
        if featurizer is None:
            return Looked(None, since)
        vector_ND = self._encoded(featurizer, prompts)
        begin = 0
        while begin + older < len(prompts):
            middle, end = begin + older, begin + older + block
            found = shifted(
                vector_ND[begin:middle],
                vector_ND[middle:end],
                np.random.default_rng(0),
                self._rules.prompts_alarm_every,
            )
            if found is not None:
                since = prompts[middle + found.since].at
                told = prompts[middle + found.found].at
                count = found.found - found.since + 1
                reason = (
                    f"what is asked has changed: the last {count} prompts are told from the "
                    f"{older} before them by their vectors"
                )
                return Looked(Drift(since, told, reason, ()), told)
            if end > len(prompts):
                break
            begin += block
        return Looked(None, prompts[begin].at)

    def _encoder(self, version: str) -> Featurizer | None:
        """That of a version; None where it can't be loaded, which is told where it serves."""
        if version != self._version:
            try:
                self._featurizer = self._store.load(self._router, version).featurizer
            except (RoutingError, ConfigError) as error:
                _log.warning("prompts of router %s are not looked at: %s", self._router, error)
                return None
            self._version, self._vectors = version, {}
        return self._featurizer

    def _encoded(self, featurizer: Featurizer, prompts: list[FirstPrompt]) -> Vectors:
        """Each prompt is encoded once, while the same version serves."""
        known = self._vectors
        new = [prompt for prompt in prompts if prompt.decision_id not in known]
        fresh_ND = featurizer.transform([prompt.text for prompt in new]).vectors_ND if new else ()
        known |= {prompt.decision_id: row for prompt, row in zip(new, fresh_ND, strict=True)}
        self._vectors = {prompt.decision_id: known[prompt.decision_id] for prompt in prompts}
        return np.stack(list(self._vectors.values()))
