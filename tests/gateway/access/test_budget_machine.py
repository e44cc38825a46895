"""Reservations are never leaked or overdrawn, in whatever order requests come and end."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Usage
from gateway.access.keys import Key
from gateway.access.passes import Cover, Pass
from gateway.errors import ApiError
from gateway.settings.access import Grant, Limit
from tests.gateway.access.test_accounts import HI, admission, ask, opened


class Budgets(RuleBasedStateMachine):
    """Requests that come, ask for money, end, break off and leave, in any order."""

    passes = Bundle("passes")
    covers = Bundle("covers")

    @initialize(usd=st.sampled_from([0.0, 0.001, 0.01]), project=st.sampled_from([0.002, 0.1]))
    def begin(self, usd: float, project: float) -> None:
        limits = [{"usd": project, "per": "total"}]
        self.admission = admission(projects={"default": {"limits": limits}}, min_answer_tokens=1)
        own = (Limit(usd=usd, per="total"), Limit(usd=0.005, per="day")) if usd else ()
        self.keys = [Key("one", Grant(limits=own)), Key("two")]
        self.open: list[Pass] = []
        self.pending: list[Cover] = []
        self.charged = {"one": 0, "two": 0}
        for key in self.keys:
            opened(key, self.admission)

    @rule(target=passes, which=st.integers(0, 1))
    def admit(self, which: int) -> tuple[Pass, str]:
        made = self.admission.admit_now(ask(self.keys[which]))
        assert made is not None
        self.open.append(made)
        return made, self.keys[which].name

    @rule(target=covers, owner=passes, most=st.integers(1, 3000), price=st.floats(0, 3))
    def cover(self, owner: tuple[Pass, str], most: int, price: float) -> Any:
        made, name = owner
        if made not in self.open:
            return None
        card = ExpertCard("x", prices=Prices(price, price))
        try:
            cover = made.cover_now(card, ChatRequest(HI, max_tokens=most))
        except ApiError as error:
            assert error.type == "budget_exceeded"  # noqa: PT017 - the other outcome of two
            return None
        assert (cover.request.max_tokens or 0) <= most
        self.pending.append(cover)
        return cover, name, card.prices

    @rule(cover=consumes(covers), share=st.floats(0, 1))
    def spend(self, cover: Any, share: float) -> None:
        if cover is None or cover[0] not in self.pending:
            return
        held, name, price = cover
        self.pending.remove(held)
        usage = Usage(input=60, output=round((held.request.max_tokens or 0) * share))
        cost = price.cost_nanousd(usage)
        held.spent(cost, usage)
        held.spent(cost, usage)
        self.charged[name] += cost

    @rule(cover=consumes(covers))
    def lose(self, cover: Any) -> None:
        """It failed before a token was counted, or its price is not known."""
        if cover is not None and cover[0] in self.pending:
            self.pending.remove(cover[0])
            cover[0].spent(None, None)

    @rule(owner=passes)
    def close(self, owner: tuple[Pass, str]) -> None:
        if owner[0] in self.open:
            self.open.remove(owner[0])
            owner[0].close()
            self.pending = [c for c in self.pending if c._pass is not None]

    @invariant()
    def never_overdrawn(self) -> None:
        for account in self.admission.accounts.all():
            assert account.room >= 0
            assert account.reserved >= 0
            names = ["one"] if account.meter.kind == "key" else ["one", "two"]
            assert account.spent == sum(self.charged[name] for name in names)

    def teardown(self) -> None:
        for made in self.open:
            made.close()
        for account in self.admission.accounts.all():
            assert (account.reserved, account.passes) == (0, 0)


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
