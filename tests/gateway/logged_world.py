"""A ledger full of decisions in a world whose truth is known."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway import ids
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.database import open_database
from gateway.ledger.rows import Row, price_row, token_columns
from gateway.ledger.store import Ledger
from gateway.outcomes.ended import Ended, Hearing, Scored
from gateway.routing.serving import ServingRouters
from routers.eligible import Constraints
from routers.records import Floats, OutcomeTable, Preference
from routers.router import untrained_router

WORDS = {
    "law": "judge court statute appeal",
    "gene": "cell enzyme protein membrane",
    "sail": "rigging harbour tide anchor",
}
CARDS = (
    ExpertCard("biologist", prices=Prices(2, 2), quality_prior=0.5),
    ExpertCard("lawyer", prices=Prices(2, 2), quality_prior=0.6),
    ExpertCard("scholar", prices=Prices(9, 9), quality_prior=0.5),
)
EXPERTS = tuple(card.expert_id for card in CARDS)
TRUTH = {"law": (0.2, 0.9, 0.7), "gene": (0.9, 0.2, 0.7), "sail": (0.5, 0.5, 0.7)}
"""P(right) of each expert on each kind of question."""


@dataclass(frozen=True)
class Questions:
    """Prompts, and how good each expert is on each, shape (N, 3)."""

    prompts: tuple[str, ...]
    truth_NA: Floats

    @classmethod
    def draw(
        cls, count: int, rng: np.random.Generator, kinds_asked: Sequence[str] = ("gene", "law")
    ) -> Questions:
        kinds = rng.choice(kinds_asked, size=count)
        prompts = tuple(
            f"{' '.join(rng.choice(WORDS[kind].split(), 4))} {rng.integers(10**6)}"
            for kind in kinds
        )
        return cls(prompts, np.array([TRUTH[kind] for kind in kinds]))

    def table(self, rng: np.random.Generator) -> OutcomeTable:
        """Outcomes of having asked everybody."""
        shape = self.truth_NA.shape
        unknown_NA = np.full(shape, np.nan)
        ids = tuple(f"q{row}" for row in range(shape[0]))
        return OutcomeTable(
            query_ids=ids,
            prompts=self.prompts,
            tasks=(None,) * shape[0],
            groups=ids,
            experts=EXPERTS,
            score_NA=(rng.random(shape) < self.truth_NA).astype(np.float64),
            prompt_tokens_NA=unknown_NA,
            output_tokens_NA=np.full(shape, 20.0),
            cost_usd_NA=unknown_NA,
            latency_s_NA=unknown_NA,
            propensity_NA=np.ones(shape),
        )


def fill(
    url: str,
    questions: Questions,
    rng: np.random.Generator,
    *,
    epsilon: float = 0.9,
    scored: float = 1.0,
    text: str = "full",
    serving: ServingRouters | None = None,
    explore: bool = True,
    shadow: float = 0.0,
    written: Sequence[int] | None = None,
) -> None:
    """Book a request for every question.

    Decided by what serves, or else by an untrained router that explores a lot. Of a share of them,
    `shadow`, all others are asked as well, and scored. Answers are 20 tokens long unless `written`
    says how long each is.
    """
    ledger = Ledger(open_database(url), strict=False)
    untrained = untrained_router("default", epsilon)

    async def all_of_them() -> None:
        for row, prompt in enumerate(questions.prompts):
            request = ChatRequest((Message("user", prompt),))
            router = serving.pick("default", None, rng) if serving else untrained
            decision = router.decide(
                request,
                CARDS,
                preference=Preference(),
                policy_name="best",
                constraints=Constraints(),
                unhealthy={},
                uniform=float(rng.random()),
                explore=explore,
            )
            ask = Ask(request, "auto", "openai.chat", Key("k"))
            rows: list[Row] = []

            def offer(ended: Ended, row: int = row, rows: list[Row] = rows) -> dict[str, float]:
                if rng.random() < shadow:
                    for place, other in enumerate(CARDS):
                        if other.expert_id != ended.decision.expert:
                            right = float(rng.random() < questions.truth_NA[row, place])
                            rows += shadow_rows(ended.decision_id, other, right)
                return dict.fromkeys(EXPERTS, shadow)

            hearing = Hearing(lambda _: None, offer) if shadow else None
            booking = Booking(ledger, ask, decision, text, hearing=hearing)
            card = next(card for card in CARDS if card.expert_id == decision.expert)
            attempt = await booking.begin(card)
            attempt.usage = Usage(input=10, output=20 if written is None else written[row])
            booking.end(attempt, "ok")
            booking.close(200, None, decision.expert, "an answer")
            ledger.append(rows)
            if rng.random() < scored:
                right = rng.random() < questions.truth_NA[row, EXPERTS.index(decision.expert)]
                ledger.append([_score(booking.decision_id, float(right))])
        await ledger.flush()

    with ids_in_order():
        asyncio.run(all_of_them())
    ledger.close()


@contextmanager
def ids_in_order() -> Iterator[None]:
    """New ids sort as they were made.

    Groups are drawn and split in the order of their ids, which for those of one millisecond is
    chance: intervals would differ from run to run, and now and then too much.
    """
    fetched = ids._fetched
    ids._chance.clear()
    ids._fetched = lambda: f"{next(_made):020x}"
    try:
        yield
    finally:
        ids._fetched = fetched


_made = itertools.count()


def shadow_rows(decision_id: str, card: ExpertCard, score: float) -> list[Row]:
    """What the books say of one shadow call."""
    call_id, usage = new_id("shc"), Usage(input=10, output=20)
    assert card.prices is not None
    price = price_row(card.expert_id, card.prices)
    made = {
        "call_id": call_id,
        "root_id": call_id,
        "decision_id": decision_id,
        "at": now(),
        "expert_id": card.expert_id,
        "price_id": price.values["price_id"],
    }
    ended = {
        "call_id": call_id,
        "at": now(),
        "status": "ok",
        **token_columns(usage),
        "cost_nanousd": card.prices.cost_nanousd(usage),
        "latency_s": 0.1,
    }
    return [
        price,
        Row(tables.shadow_call, made),
        Row(tables.shadow_result, ended),
        Scored(decision_id, call_id).row("quality", score, "test"),
    ]


def _score(decision_id: str, value: float) -> Row:
    values = {
        "outcome_id": new_id("out"),
        "decision_id": decision_id,
        "at": now(),
        "objective": "quality",
        "score": value,
        "source": "test",
        "comment": None,
    }
    return Row(tables.outcome, values)
