r"""How likely each outcome was to be seen, where others than who served are asked now and then.

Of a request, the expert that was drawn (chance :math:`\mu_a`) is scored with chance f; every
other one is asked as well with chance :math:`s_a`, and its answer is scored with chance
:math:`g_a`. Given that anything of the request was scored at all, an outcome is seen with chance

.. math:: p_a = \frac{\mu_a f + (1 - \mu_a) s_a g_a}{f + (1 - h) \max_b s_b \, G}

with G the chance that a sampled request gets any score from it, and h the chance that then the
drawn one is scored, too. Chance alone decides who is sampled, so weights of one over p are right
for all of them together: for an expert that never serves, p is its share of the samples; for one
that always does, 1.

f, g, h and G are counted; f apart where others may be asked and where not, for those are others:
where only requests with a check are scored, nobody else is asked beside the rest. Weighing by
counted chances is no less right than by true ones, and surer:
Hirano, Imbens & Ridder, "Efficient estimation of average treatment effects using the estimated
propensity score", Econometrica, 2003.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from routers.records import Floats


def chances_seen(
    logged_NA: Floats,
    asked_NA: Floats,
    drawn_N: npt.NDArray[np.intp],
    seen_NA: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Chance of every outcome to be seen, given that any of its request is.

    Args:
        logged_NA: P(expert is drawn | request), rows sum to 1.
        asked_NA: P(expert is asked as well | it is not drawn); 0 where nobody is.
        drawn_N: Columns of those that were drawn.
        seen_NA: Which outcomes were seen, of all requests, those without any score included.

    Returns:
        The chances, in [0, 1], and that part of them which is owed to asking others, both (N, A).
    """
    rows = np.arange(len(drawn_N))
    others_NA = asked_NA.copy()
    others_NA[rows, drawn_N] = 0.0
    told_NA = seen_NA.copy()
    told_NA[rows, drawn_N] = False
    told_N, own_N = told_NA.any(axis=1), seen_NA[rows, drawn_N]
    expected_A = others_NA.sum(axis=0)
    scored_A = np.divide(
        told_NA.sum(axis=0), expected_A, out=np.zeros_like(expected_A), where=expected_A > 0
    )
    sampled_N = asked_NA.max(axis=1, initial=0.0)
    if not (told_N.any() and sampled_N.any()):
        return logged_NA, np.zeros_like(asked_NA)
    anything = float(told_N.sum() / sampled_N.sum())
    offered_N = sampled_N > 0
    served_N = np.where(offered_N, _share(own_N[offered_N]), _share(own_N[~offered_N]))
    alone = 1 - _share(own_N[told_N])
    any_N = served_N + alone * np.minimum(sampled_N * anything, 1.0)
    scale_N1 = np.divide(1.0, any_N, out=np.zeros_like(any_N), where=any_N > 0)[:, None]
    aside_NA = (1 - logged_NA) * asked_NA * scored_A * scale_N1
    chance_NA = logged_NA * served_N[:, None] * scale_N1 + aside_NA
    return np.minimum(chance_NA, 1.0), np.minimum(aside_NA, 1.0)


def _share(seen_N: npt.NDArray[np.bool_]) -> float:
    return float(seen_N.mean()) if len(seen_N) else 0.0
