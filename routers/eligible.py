"""Who can serve a request at all: windows, abilities, allow-lists, price ceilings, health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Self

from experts.barred import barred, may_be_barred
from experts.cards import ExpertCard, Privacy, strictest
from experts.messages import ChatRequest, RawInput
from experts.params import refused_params
from experts.record import record
from routers.abilities import NOTHING, Needs, whoever_says_so
from routers.errors import TooLong
from routers.features import answers_wanted, estimate_tokens


@dataclass(frozen=True, slots=True)
class Constraints:
    """Hard limits of one request. Whoever breaks one is not eligible.

    Attributes:
        allow: The only expert ids allowed; None allows all.
        max_cost_usd: Most dollars the call may cost if the answer is as long as it can be.
        max_latency_s: Most seconds the answer is expected to take; checked where latency is known
            (see `Router.decide`), since a card does not hold it.
        only_local: Whether the request may not leave our machines.
        max_params_b: Most parameters, in billions; who does not say how many is out.
        released_after: Who was released on that day or before, or does not say when, is out; the
            first day there is asks for nothing.
        tags: What an expert's tags must say, e.g. {("region", "eu")}.
        privacy: The class of the request's data: who may not be sent it is out.
    """

    allow: frozenset[str] | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    only_local: bool = False
    max_params_b: float | None = None
    released_after: date = date.min
    tags: frozenset[tuple[str, str]] = frozenset()
    privacy: Privacy = "public"

    @property
    def of_cards(self) -> bool:
        """Whether anything is asked that an expert's card alone answers."""
        dated = self.released_after != date.min
        confined = self.only_local or bool(self.tags) or self.privacy != "public"
        return confined or dated or self.max_params_b is not None

    def tightened(self, other: Constraints) -> Constraints:
        """Both at once."""
        allow = self.allow if other.allow is None else other.allow
        if self.allow is not None and other.allow is not None:
            allow = self.allow & other.allow
        return Constraints(
            allow,
            _least(self.max_cost_usd, other.max_cost_usd),
            _least(self.max_latency_s, other.max_latency_s),
            self.only_local or other.only_local,
            _least(self.max_params_b, other.max_params_b),
            max(self.released_after, other.released_after),
            self.tags | other.tags,
            strictest(self.privacy, other.privacy),
        )


def _least(one: float | None, other: float | None) -> float | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)


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
        The eligible cards sorted by id, possibly none, and the reason per excluded id. Those whose
        cards don't say whether they can what is needed are eligible where nobody says so.
    """
    pool = Cards.of(cards)
    case = _Case(request, prompt_tokens, Needs.of(request), unhealthy, constraints)
    if pool.all_serve(case):
        return pool, {}
    return _one_by_one(case, pool)


def _one_by_one(
    case: _Case, cards: Sequence[ExpertCard]
) -> tuple[tuple[ExpertCard, ...], dict[str, str]]:
    sure: list[ExpertCard] = []
    unsure: list[tuple[ExpertCard, tuple[str, ...]]] = []
    reasons: dict[str, str] = {}
    # Most requests ask for little, and most checks need not be made then.
    checks = [check for asked, check in _CHECKS if asked(case)]
    for card in cards:
        for check in checks:
            reason = check(case, card)
            if reason is not None:
                reasons[card.expert_id] = reason
                break
        else:
            if silent := case.needs.unstated(card):
                unsure.append((card, silent))
            else:
                sure.append(card)
    able, silent_reasons = whoever_says_so(sure, unsure)
    return able, reasons | silent_reasons


def forbidden(
    request: ChatRequest, prompt_tokens: float, card: ExpertCard, constraints: Constraints
) -> str | None:
    """Why `constraints`, or being of another kind, exclude an expert asked by name, if they do."""
    limited = (
        constraints.allow is not None
        or constraints.max_cost_usd is not None
        or constraints.of_cards
    )
    if not limited and request.task == "chat" and card.api == "chat":
        return None
    case = _Case(request, prompt_tokens, NOTHING, {}, constraints)
    if reason := _other_task(case, card):
        return reason
    if constraints.allow is not None and (reason := _not_allowed(case, card)):
        return reason
    if constraints.of_cards and (reason := _card_says_no(case, card)):
        return reason
    return None if constraints.max_cost_usd is None else _price(case, card, window=None)


_EXPERT_ID = attrgetter("expert_id")


class Cards(tuple[ExpertCard, ...]):
    """A pool sorted by id, with what all of it can do: for most requests nobody is looked at alone.

    Attributes:
        window: The smallest context window, infinite where none is known.
        modalities: What everyone is known to read.
        plain_chat: Whether everyone answers chats, whatever the request's fields.
        tools: Whether everyone is known to call tools.
        structured_output: Whether everyone is known to honour `response_format`.
    """

    window: float
    modalities: frozenset[str]
    plain_chat: bool
    tools: bool
    structured_output: bool

    def __new__(cls, cards: Iterable[ExpertCard]) -> Self:
        pool = super().__new__(cls, sorted(cards, key=_EXPERT_ID))
        windows = [card.context_tokens for card in pool if card.context_tokens is not None]
        pool.window = min(windows, default=float("inf"))
        pool.modalities = frozenset.intersection(
            *(card.modalities or _TEXT for card in pool), _EVERYTHING
        )
        pool.plain_chat = all(card.api == "chat" and card.params != "strict" for card in pool)
        pool.tools = all(card.tools for card in pool)
        pool.structured_output = all(card.structured_output for card in pool)
        return pool

    @classmethod
    def of(cls, cards: Iterable[ExpertCard]) -> Cards:
        """`cards` themselves if they are one already."""
        return cards if isinstance(cards, Cards) else cls(cards)

    def all_serve(self, case: _Case) -> bool:
        """True only if none of the checks finds anything against anyone."""
        request, limits = case.request, case.constraints
        return (
            self.plain_chat
            and request.task == "chat"
            and limits.allow is None
            and limits.max_cost_usd is None
            and not limits.of_cards
            and not case.unhealthy
            and case.prompt_tokens + (request.max_tokens or 1) <= self.window
            and case.needs.modalities <= self.modalities
            and (self.tools or not case.needs.tools)
            and (self.structured_output or not case.needs.schema)
            and not may_be_barred(request)
        )


_EVERYTHING = frozenset({"text", "image", "audio", "file"})
_TEXT = frozenset({"text"})


@record()
class _Case:
    request: ChatRequest
    prompt_tokens: float
    needs: Needs
    unhealthy: Mapping[str, str]
    constraints: Constraints


def _not_allowed(case: _Case, card: ExpertCard) -> str | None:
    allow = case.constraints.allow or frozenset()
    return None if card.expert_id in allow else "not among the experts allowed"


def _card_says_no(case: _Case, card: ExpertCard) -> str | None:
    limits = case.constraints
    if limits.only_local and not card.local:
        return "does not run on our machines"
    if not card.clears(limits.privacy):
        return f"may be sent {card.privacy} data at most, and this is {limits.privacy}"
    most = limits.max_params_b
    too_large = None if most is None else _too_large(card, most)
    return too_large or _not_of_its_day(card, limits.released_after) or _untagged(card, limits.tags)


def _too_large(card: ExpertCard, most: float) -> str | None:
    size = card.params_total_b if card.params_total_b is not None else card.params_active_b
    if size is None:
        return f"does not say how many parameters it has, the most are {most:g} billion"
    return f"has {size:g} billion parameters, the most are {most:g}" if size > most else None


def _not_of_its_day(card: ExpertCard, after: date) -> str | None:
    if after == date.min:
        return None
    try:
        released = date.fromisoformat(card.released)
    except ValueError:
        return f"does not say which day it was released, which must be after {after}"
    return f"was released on {released}, which must be after {after}" if released <= after else None


def _untagged(card: ExpertCard, tags: frozenset[tuple[str, str]]) -> str | None:
    missing = [f"{key}={value}" for key, value in tags if card.tags.get(key) != value]
    return f"is not tagged {', '.join(sorted(missing))}" if missing else None


def _out_of_service(case: _Case, card: ExpertCard) -> str | None:
    return case.unhealthy.get(card.expert_id)


def _other_task(case: _Case, card: ExpertCard) -> str | None:
    task = case.request.task
    if task == "chat" and card.api == "chat":
        return None
    if task == "embed":
        return None if card.api == "embeddings" else "makes no embeddings"
    if card.api == "embeddings":
        return "only makes embeddings"
    if task == "chat":
        return None if card.prompt else "only continues prompts (POST /v1/completions)"
    needs = case.request.needs_raw_prompt
    if needs is None or card.takes_raw_prompts:
        return None
    return f"takes no raw prompt, which {needs} needs"


def _takes_not_every_field(case: _Case, card: ExpertCard) -> str | None:
    refused = refused_params(case.request, card)
    return f"does not take {', '.join(refused)}" if refused else None


def _barred(case: _Case, card: ExpertCard) -> str | None:
    found = barred(case.request, card)
    return f"is not sent {found.param}: {found.why}" if found else None


def _unable(case: _Case, card: ExpertCard) -> str | None:
    return case.needs.lacked(card)


def _window_too_small(case: _Case, card: ExpertCard) -> str | None:
    window = card.context_tokens
    if window is None:
        return None
    if case.request.task == "embed":
        # Each text by itself.
        needed = max(map(_tokens, case.request.raw), default=1.0)
        if needed <= window:
            return None
        return TooLong(f"a text needs about {needed:.0f} tokens, its context window holds {window}")
    needed = case.prompt_tokens + (case.request.max_tokens or 1)
    if needed <= window:
        return None
    return TooLong(
        f"prompt and answer need about {needed:.0f} tokens, its context window holds {window}"
    )


def _tokens(given: RawInput) -> float:
    return estimate_tokens(given) if isinstance(given, str) else len(given)


def _too_dear(case: _Case, card: ExpertCard) -> str | None:
    return _price(case, card, card.context_tokens)


def _price(case: _Case, card: ExpertCard, window: int | None) -> str | None:
    ceiling = case.constraints.max_cost_usd
    # Of a composition the cheapest way has to fit: its further calls are made as far as they do.
    prices = card.least if card.composed else card.prices
    if prices is None:
        return f"its price is unknown, so the ceiling of ${ceiling:g} can't be kept"
    longest = _longest_answer(case, card, window)
    if longest is None and prices.output > 0 and not card.composed:
        return f"nothing bounds its answer, so the ceiling of ${ceiling:g} can't be kept"
    worst = prices.expected_usd(case.prompt_tokens, longest or 0.0)
    if card.caps.usd is not None:
        worst = min(worst, card.caps.usd)
    if ceiling is None or worst <= ceiling:
        return None
    return f"may cost ${worst:.3g}, the ceiling is ${ceiling:g}"


def _longest_answer(case: _Case, card: ExpertCard, window: int | None) -> float | None:
    bounds = (
        case.request.max_tokens,
        card.max_output_tokens,
        None if window is None else max(window - case.prompt_tokens, 0),
    )
    known = [bound for bound in bounds if bound is not None]
    return min(known) * answers_wanted(case.request) if known else None


_Asked = Callable[[_Case], bool]
_Check = Callable[[_Case, ExpertCard], str | None]

# What a request must ask for to make a check worth while, and the check.
_CHECKS: tuple[tuple[_Asked, _Check], ...] = (
    (lambda case: case.constraints.allow is not None, _not_allowed),
    (lambda case: case.constraints.of_cards, _card_says_no),
    (lambda case: bool(case.unhealthy), _out_of_service),
    (lambda case: True, _other_task),
    (lambda case: bool(case.request.params), _takes_not_every_field),
    (lambda case: may_be_barred(case.request), _barred),
    (lambda case: True, _unable),
    (lambda case: True, _window_too_small),
    (lambda case: case.constraints.max_cost_usd is not None, _too_dear),
)
