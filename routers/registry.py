"""Names of estimators, encoders and policies, and how to make each.

Built-in ones and those that other packages bring (entry points of the groups
`pointsman.estimators` and `pointsman.policies`) are loaded the same way, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from routers.base import Encoder, Estimator, Policy
from routers.errors import RoutingError

ENTRY_POINT_GROUP = "pointsman.estimators"
POLICY_GROUP = "pointsman.policies"
DEFAULT_ESTIMATOR = "stack"
DEFAULT_ENCODER = "tfidf"

_ESTIMATORS: Mapping[str, str] = {
    "average": "routers.estimators.averaged:AveragedEstimator",
    "bilinear": "routers.estimators.bilinear:BilinearEstimator",
    "category": "routers.estimators.category:CategoryEstimator",
    "cluster": "routers.estimators.cluster:ClusterEstimator",
    "contrastive": "routers.estimators.contrastive:ContrastiveEstimator",
    "entities": "routers.estimators.entities:EntityGraphEstimator",
    "graph": "routers.estimators.graph:GraphEstimator",
    "instruction": "routers.estimators.instruction:InstructionEstimator",
    "irt": "routers.estimators.irt:IrtEstimator",
    "knn": "routers.estimators.knn:KnnEstimator",
    "linucb": "routers.estimators.linucb:LinUcbEstimator",
    "logistic": "routers.estimators.logistic:LogisticEstimator",
    "mlp": "routers.estimators.mlp:MlpEstimator",
    "online": "routers.estimators.online:OnlineHeadsEstimator",
    "pairwise": "routers.estimators.pairwise:PairwiseEstimator",
    "pilot": "routers.estimators.pilot:PilotEstimator",
    "prior": "routers.estimators.prior:PriorEstimator",
    "ridge": "routers.estimators.ridge:RidgeEstimator",
    "stack": "routers.estimators.stacked:StackedEstimator",
    "thompson": "routers.estimators.thompson:ThompsonEstimator",
    "text": "routers.estimators.text:TextEstimator",
}
_WRAPPERS: Mapping[str, str] = {
    "calibrated": "routers.estimators.calibrated:CalibratedEstimator",
    "guarded": "routers.estimators.guarded:GuardedEstimator",
    "robust": "routers.estimators.robust:RobustEstimator",
    "safe": "routers.estimators.safe:SafeEstimator",
}
_ENCODERS: Mapping[str, str] = {
    "hashing": "routers.encoders.lexical:HashingEncoder",
    "minilm": "routers.encoders.minilm:MiniLmEncoder",
    "static": "routers.encoders.static:StaticEncoder",
    "tfidf": "routers.encoders.lexical:TfidfSvdEncoder",
}
_POLICIES: Mapping[str, str] = {
    "budget": "routers.policies.budget:BudgetPolicy",
    "capacity": "routers.policies.capacity:CapacityPolicy",
    "cautious": "routers.policies.cautious:CautiousPolicy",
    "conformal": "routers.policies.conformal:ConformalPolicy",
    "floor": "routers.policies.floor:FloorPolicy",
    "greedy": "routers.policies.greedy:GreedyUtilityPolicy",
    "modes": "routers.policies.modes:ModesPolicy",
    "optimistic": "routers.policies.bounds:OptimisticPolicy",
    "pacer": "routers.policies.pacer:PacerPolicy",
    "pessimistic": "routers.policies.bounds:PessimisticPolicy",
    "softmax": "routers.policies.softmax:SoftmaxPolicy",
    "thompson": "routers.policies.thompson:ThompsonPolicy",
    "threshold": "routers.policies.threshold:ThresholdPolicy",
    "top_p": "routers.policies.top_p:TopPPolicy",
    "uniform": "routers.policies.uniform:UniformPolicy",
}


def estimator_names() -> tuple[str, ...]:
    """Every name that `make_estimator` knows, sorted."""
    return tuple(sorted({**_brought(ENTRY_POINT_GROUP), **_ESTIMATORS}))


def encoder_names() -> tuple[str, ...]:
    """Every name that `make_encoder` knows, sorted."""
    return tuple(sorted(_ENCODERS))


def wrapper_names() -> tuple[str, ...]:
    """Every name that `make_wrapper` knows, sorted."""
    return tuple(sorted(_WRAPPERS))


def policy_names() -> tuple[str, ...]:
    """Every name that `make_policy` knows, sorted."""
    return tuple(sorted({**_brought(POLICY_GROUP), **_POLICIES}))


def make_estimator(name: str, **settings: Any) -> Estimator:
    """A new, unfitted estimator.

    Args:
        name: What it is called.
        settings: Arguments of its constructor other than the defaults.

    Raises:
        RoutingError: No estimator has that name; the message lists those that exist.
    """
    return cast(Estimator, _load("estimator", name, _ESTIMATORS, ENTRY_POINT_GROUP)(**settings))


def make_wrapper(name: str, inner: Estimator) -> Estimator:
    """A new, unfitted wrapper around `inner`, with its default settings.

    Raises:
        RoutingError: No wrapper has that name; the message lists those that exist.
    """
    return cast(Estimator, _load("wrapper", name, _WRAPPERS)(inner))


def estimator_class(name: str) -> type[Estimator]:
    """The class whose artifacts carry `name`, wrappers included.

    Raises:
        RoutingError: No estimator has that name.
    """
    own = {**_ESTIMATORS, **_WRAPPERS}
    return cast("type[Estimator]", _load("estimator", name, own, ENTRY_POINT_GROUP))


def make_encoder(name: str) -> Encoder:
    """A new encoder with its default settings.

    Raises:
        RoutingError: No encoder has that name; the message lists those that exist.
    """
    return encoder_class(name)()


def encoder_class(name: str) -> type[Encoder]:
    """The class whose artifacts carry `name`.

    Raises:
        RoutingError: No encoder has that name.
    """
    return cast("type[Encoder]", _load("encoder", name, _ENCODERS))


def make_policy(name: str, **settings: Any) -> Policy:
    """The policy of that name.

    Args:
        name: What it is called.
        settings: Arguments of its constructor other than the defaults.

    Raises:
        RoutingError: No policy has that name; the message lists those that exist.
    """
    return cast(Policy, _load("policy", name, _POLICIES, POLICY_GROUP)(**settings))


def policy_params(policy: Policy) -> dict[str, Any]:
    """What `make_policy` takes beside the name to make this policy again, JSON-able.

    These are the fields of a dataclass that its constructor takes; any other policy has none.
    """
    if not is_dataclass(policy):
        return {}
    return {each.name: getattr(policy, each.name) for each in fields(policy) if each.init}


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Raises RoutingError, listing those that exist, when `name` is none of `known`."""
    if name not in known:
        raise RoutingError(f"unknown {what} {name!r}; known are {', '.join(sorted(known))}")


def _brought(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}


def _load(what: str, name: str, ours: Mapping[str, str], group: str = "") -> Callable[..., Any]:
    """What `ours` calls `name`, or else, given a group, what another package calls so."""
    # To look through all packages that are installed takes time, which few names are worth.
    known = ours if name in ours or not group else {**_brought(group), **ours}
    check_known(what, name, known)
    return cast("Callable[..., Any]", EntryPoint(name, known[name], group).load())
