"""Who can serve a request at all: windows, abilities, allow-lists, price ceilings, health."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.features import answers_wanted


@dataclass(frozen=True, slots=True)
class Constraints:
    """Hard limits of one request. Whoever breaks one is not eligible.

    Attributes:
        allow: The only expert ids allowed; None allows all.
        max_cost_usd: Most dollars the call may cost if the answer is as long as it can be.
        max_latency_s: Most seconds the answer is expected to take; checked where latency is known
            (see `Router.decide`), since a card does not hold it.
    """

    allow: frozenset[str] | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None


def eligible(
    request: ChatRequest,
    prompt_tokens: float,
    cards: Sequence[ExpertCard],
    unhealthy: Mapping[str, str],
    constraints: Constraints,
) -> tuple[tuple[ExpertCard, ...], dict[str, str]]:
    """Sort the pool into those who can serve `request` and reasons why the others can't.

    Args:
        request: What is asked.
        prompt_tokens: Estimated tokens of the prompt, >= 1.
        cards: The pool, in any order.
        unhealthy: Expert id to the reason why it is out of service.
        constraints: The limits of this request.

    Returns:
        The eligible cards sorted by id, possibly none, and the reason per excluded id.
    """
    able: list[ExpertCard] = []
    reasons: dict[str, str] = {}
    for card in sorted(cards, key=lambda card: card.expert_id):
        case = _Case(request, prompt_tokens, card, unhealthy, constraints)
        reason = next((why for check in _CHECKS if (why := check(case))), None)
        if reason is None:
            able.append(card)
        else:
            reasons[card.expert_id] = reason
    return tuple(able), reasons


@dataclass(frozen=True, slots=True)
class _Case:
    request: ChatRequest
    prompt_tokens: float
    card: ExpertCard
    unhealthy: Mapping[str, str]
    constraints: Constraints


def _not_allowed(case: _Case) -> str | None:
    allow = case.constraints.allow
    return "not among the experts allowed" if _outside(case.card.expert_id, allow) else None


def _outside(expert_id: str, allow: frozenset[str] | None) -> bool:
    return allow is not None and expert_id not in allow


def _out_of_service(case: _Case) -> str | None:
    return case.unhealthy.get(case.card.expert_id)


def _cannot_read(case: _Case) -> str | None:
    missing = case.request.modalities - case.card.modalities
    return f"cannot read {', '.join(sorted(missing))}" if missing else None


def _no_tools(case: _Case) -> str | None:
    return "cannot call tools" if case.request.needs_tools and not case.card.tools else None


def _no_schema(case: _Case) -> str | None:
    lacks = case.request.needs_schema and not case.card.structured_output
    return "does not honour response_format" if lacks else None


def _window_too_small(case: _Case) -> str | None:
    window = case.card.context_tokens
    needed = case.prompt_tokens + (case.request.max_tokens or 1)
    if window is None or needed <= window:
        return None
    return f"prompt and answer need about {needed:.0f} tokens, its context window holds {window}"


def _too_dear(case: _Case) -> str | None:
    ceiling = case.constraints.max_cost_usd
    if ceiling is None:
        return None
    if case.card.prices is None:
        return f"its price is unknown, so the ceiling of ${ceiling:g} can't be kept"
    longest = _longest_answer(case)
    if longest is None and case.card.prices.output > 0:
        return f"nothing bounds its answer, so the ceiling of ${ceiling:g} can't be kept"
    worst = case.card.prices.expected_usd(case.prompt_tokens, longest or 0.0)
    return None if worst <= ceiling else f"may cost ${worst:.3g}, the ceiling is ${ceiling:g}"


def _longest_answer(case: _Case) -> float | None:
    window = case.card.context_tokens
    bounds = (
        case.request.max_tokens,
        case.card.max_output_tokens,
        None if window is None else max(window - case.prompt_tokens, 0),
    )
    known = [bound for bound in bounds if bound is not None]
    return min(known) * answers_wanted(case.request) if known else None


_CHECKS: tuple[Callable[[_Case], str | None], ...] = (
    _not_allowed,
    _out_of_service,
    _cannot_read,
    _no_tools,
    _no_schema,
    _window_too_small,
    _too_dear,
)
