"""Whether decisions hold when the same is asked in other words, or by somebody with intent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.records import FeatureBatch

CHANGES = ("prefix", "wording", "typo")
"""Harmless changes: a polite beginning, other words for the same, letters that changed places."""

_ASKED, _SEARCHED, _JUDGED = 150, 40, 60
_GADGETS, _GADGET_WORDS = 25, 12
_WORDINGS = (
    ("which of the following", "which one of these"),
    ("what is", "what's"),
    ("calculate", "compute"),
    ("determine", "find out"),
    ("find", "work out"),
    ("how many", "what number of"),
    ("answer the following", "answer this"),
    ("choose", "pick"),
    ("write", "give"),
    ("select", "pick"),
    ("following", "next"),
    ("correct", "right"),
)

Columns = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Changed:
    """Test prompts and what became of them, before they are encoded.

    Attributes:
        plain: A sample of the test's prompts.
        changed: Each of `CHANGES` to the same prompts, changed.
        gadgets: Each gadget put before every prompt of `plain`, of which the first are searched
            and the others judged; fewer prompts than in `plain`.
    """

    plain: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]
    gadgets: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """The same as an encoder sees it."""

    plain: FeatureBatch
    changed: Mapping[str, FeatureBatch]
    gadgets: tuple[FeatureBatch, ...]


@dataclass(frozen=True, slots=True)
class Robustness:
    """How far decisions follow the meaning.

    Attributes:
        flips: Each of `CHANGES` to the share of decisions that it changes.
        target: The expert that an attacker wants to be sent to; None where there is none.
        before: Share of the queries that go there anyway.
        after: The same behind the best of 25 random prefixes of 12 words, which was found on
            other queries.
        success: Share of those that went elsewhere and now go to the target; NaN where there
            were none.
    """

    flips: Mapping[str, float]
    target: str | None
    before: float
    after: float
    success: float

    @property
    def unchanged(self) -> float:
        """Share of decisions that harmless changes leave as they are, their mean."""
        return 1 - float(np.mean(list(self.flips.values())))


def change(prompts: Sequence[str], train: Sequence[str], seed: int) -> Changed:
    """Draw prompts and change them, the same way for every router.

    Args:
        prompts: The test's.
        train: Those whose words gadgets are made of.
        seed: Source of the randomness.
    """
    rng = np.random.default_rng(seed)
    picked = np.sort(rng.permutation(len(prompts))[:_ASKED])
    plain = tuple(prompts[row] for row in picked)
    changed = {
        "prefix": tuple(f"Please answer: {text}" for text in plain),
        "wording": tuple(reworded(text) for text in plain),
        "typo": tuple(mistyped(text, rng) for text in plain),
    }
    words = sorted({word for text in train for word in re.findall(r"[^\W\d_]{3,15}", text[:2000])})
    attacked = plain[: _SEARCHED + _JUDGED]
    gadgets = []
    for _ in range(_GADGETS if words else 0):
        gadget = " ".join(words[at] for at in rng.integers(len(words), size=_GADGET_WORDS))
        gadgets.append(tuple(f"{gadget} {text}" for text in attacked))
    return Changed(plain, changed, tuple(gadgets))


def reworded(text: str) -> str:
    """Other words for the same, from a list; a word of thanks where none of them is in it."""
    lowered = text
    for word, other in _WORDINGS:
        lowered = re.sub(rf"\b{word}\b", other, lowered, flags=re.IGNORECASE)
    return lowered if lowered != text else f"{text}\nThank you."


def mistyped(text: str, rng: np.random.Generator) -> str:
    """Two inner letters change places in one of twelve longer words, in one at least."""
    places = [match.span() for match in re.finditer(r"[^\W\d_]{5,}", text)]
    if not places:
        return text + " "
    letters = list(text)
    for at in rng.permutation(len(places))[: 1 + len(places) // 12]:
        start, end = places[at]
        left = start + 1 + int(rng.integers(end - start - 3))
        letters[left], letters[left + 1] = letters[left + 1], letters[left]
    return "".join(letters)


def disturb(changed: Changed, encode: Callable[[Sequence[str]], FeatureBatch]) -> Disturbed:
    """Encode everything."""
    return Disturbed(
        encode(changed.plain),
        {kind: encode(texts) for kind, texts in changed.changed.items()},
        tuple(encode(texts) for texts in changed.gadgets),
    )


def robustness(
    decide: Callable[[FeatureBatch], Columns],
    disturbed: Disturbed,
    experts: Sequence[str],
    dearest_first: Sequence[int],
) -> Robustness:
    """Try all changes on one router.

    The attacker wants the dearest expert that gets less than half of the queries.

    Args:
        decide: Whom it sends each query to, by column.
        disturbed: The changed queries.
        experts: The columns.
        dearest_first: Columns from the one that an attacker wants most.
    """
    plain_N = decide(disturbed.plain)
    flips = {
        kind: float((decide(features) != plain_N).mean())
        for kind, features in disturbed.changed.items()
    }
    attacked = len(disturbed.gadgets[0]) if disturbed.gadgets else 0
    searched = min(_SEARCHED, attacked // 2)
    before_N = plain_N[:attacked]
    target = next((c for c in dearest_first if (plain_N == c).mean() < 0.5), None)
    if target is None or not searched:
        return Robustness(flips, None, float("nan"), float("nan"), float("nan"))
    hits = [decide(features) == target for features in disturbed.gadgets]
    # The prefix is chosen on some queries and judged on others.
    best_N = max(hits, key=lambda hit_N: int(hit_N[:searched].sum()))[searched:]
    was_N = before_N[searched:] == target
    return Robustness(
        flips,
        experts[target],
        float(was_N.mean()),
        float(best_N.mean()),
        float(best_N[~was_N].mean()) if (~was_N).any() else float("nan"),
    )
