"""Builds the experts that are made of others, children first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any

from experts.base import Expert
from experts.cards import ExpertCard
from experts.compose.best_of import BestOf, BySignal, Selector
from experts.compose.cards import Made, Share, as_made, composed_card
from experts.compose.cascade import Cascade, Stage
from experts.compose.judge import JudgedByExpert
from experts.compose.lookahead import Lookahead
from experts.compose.rounds.briefing import Briefing, Member
from experts.compose.rounds.driver import RoundsExpert, RoundsLimits
from experts.compose.rounds.grammar import Words
from experts.compose.routed import Routed, StepChooser
from experts.compose.vote import Vote
from gateway.pool import mixing
from gateway.pool.deferring import ALIKE, checks_of, deferral_of, grouping_of, signal_of
from gateway.settings.composed import CompositionSettings
from gateway.settings.compositions import (
    BestOfSettings,
    CascadeSettings,
    DeferSettings,
    MedpromptSettings,
    MixtureSettings,
    ModeSettings,
    PanelSettings,
    PeersSettings,
    RoundsSettings,
    RoutedSettings,
    SelfMoaSettings,
    TemplatesSettings,
    VoteSettings,
)
from gateway.settings.experts import ExpertSettings
from gateway.settings.outcomes import CodeSettings


class Composer:
    """Builds compositions over the other experts of a pool.

    Args:
        entries: All of the pool's entries.
        experts: Those of them that are no compositions, by id.
        uniform: Draws from [0, 1), for rules that leave something to chance.
        code: Whether and where checks may run what a model wrote.
        made: Calls that compositions made for their answers so far, by id.
    """

    def __init__(
        self,
        entries: Sequence[ExpertSettings],
        experts: Mapping[str, Expert],
        uniform: Callable[[], float],
        code: CodeSettings | None = None,
        made: Mapping[str, Made] = MappingProxyType({}),
    ) -> None:
        self._entries = {e.id: e for e in entries if isinstance(e, CompositionSettings)}
        self._built = dict(experts)
        self.uniform = uniform
        self._made = made
        self.code = CodeSettings() if code is None else code

    def build(self) -> dict[str, Expert]:
        """The compositions by id."""
        return {name: self.expert(name, name) for name in self._entries}

    def expert(self, child: str | CompositionSettings, place: str) -> Expert:
        """The expert that a child names, or that is written in its place.

        Args:
            child: As the settings have it.
            place: What a child is called that has no id of its own.
        """
        if isinstance(child, CompositionSettings):
            return self._composed(child, child.id or place)
        if child not in self._built:
            # Settings are checked for circles before anything is built.
            self._built[child] = self._composed(self._entries[child], child)
        return self._built[child]

    def children(
        self, children: Sequence[str | CompositionSettings], expert_id: str
    ) -> list[Expert]:
        """All children of the composition `expert_id`."""
        return [
            self.expert(child, f"{expert_id}/{number}") for number, child in enumerate(children, 1)
        ]

    def named(self, child: str | CompositionSettings, name: str, expert_id: str) -> Expert:
        """The child in the role `name` of the composition `expert_id`."""
        return self.expert(child, f"{expert_id}/{name}")

    def card(
        self,
        entry: CompositionSettings,
        expert_id: str,
        shares: Sequence[Share],
        least: Sequence[Share],
    ) -> ExpertCard:
        """See `composed_card`; of what it asked for its answers so far, if that is known."""
        made = self._made.get(expert_id)
        return composed_card(
            expert_id,
            shares if made is None else as_made(shares, made),
            least,
            description=entry.description,
            quality_prior=entry.quality_prior,
            caps=entry.caps,
        )

    def _composed(self, entry: CompositionSettings, expert_id: str) -> Expert:
        return BUILDERS[type(entry)](self, entry, expert_id)


_DEFERRED = 0.5
"""Part of the drafts that is expected to be deferred, until outcomes say more."""
_TURNS, _ASKED, _TURN_LENGTH = 2.2, 1.2, 2.0
"""Of a driver of rounds: turns, questions, and how much longer a turn is than the answer."""
_SHORT_ANSWER = 0.05
"""How long a judge's answer is, beside one to the client."""
_FOR_JUDGES = 0.2
"""Part of the money under a cap that drafts leave for a judge."""


def _cascade(composer: Composer, entry: CascadeSettings, expert_id: str) -> Expert:
    children = composer.children(entry.children, expert_id)
    rules = [deferral_of(rule, composer, expert_id) for rule in entry.rules]
    stages = [Stage(child, rule) for child, rule in zip(children[:-1], rules, strict=True)]
    shares = [Share(child.card, _DEFERRED**index) for index, child in enumerate(children)]
    checks = [
        share
        for index, stage in enumerate(stages)
        for share in checks_of(stage.rule.signal, stage.expert.card, _DEFERRED**index)
    ]
    card = composer.card(entry, expert_id, [*shares, *checks], shares[:1])
    return Cascade(card, stages, children[-1])


def _typical_usd(card: ExpertCard) -> float:
    """What tells the cheapest of several; one of unknown price comes last."""
    return inf if card.prices is None else card.prices.expected_usd(500, 300)


def _vote(composer: Composer, entry: VoteSettings, expert_id: str) -> Expert:
    children = composer.children(entry.voters, expert_id)
    shares = [Share(child.card, entry.n) for child in children]
    least = [Share(child.card, 1) for child in children[: entry.min_successful]]
    return Vote(
        composer.card(entry, expert_id, shares, least),
        mixing.voters_of(entry, children),
        grouping_of(entry.same, entry.alike),
        temperature=entry.temperature,
        min_successful=entry.min_successful,
        at_once=entry.at_once,
        weigher=mixing.weigher_of(entry),
    )


def _rounds(composer: Composer, entry: RoundsSettings, expert_id: str) -> Expert:
    driver = composer.expert(entry.driver, f"{expert_id}/driver")
    pool = composer.children(entry.of, expert_id)
    # A driver that was trained asks hardly more than once; it reads what it is told with each turn.
    shares = [Share(driver.card, _TURNS, reads=1, writes=_TURN_LENGTH)]
    shares += [Share(child.card, _ASKED / len(pool)) for child in pool]
    card = replace(
        composer.card(entry, expert_id, shares, shares[:1]),
        # Its form of answer is its own, and what it asks is text.
        tools=False,
        structured_output=False,
        modalities=frozenset({"text"}),
    )
    members = [
        Member(
            child.card,
            entry.latency_s.get(child.card.expert_id),
            entry.examples.get(child.card.expert_id, ()),
        )
        for child in pool
    ]
    limits = RoundsLimits(
        entry.max_rounds, entry.turn_tokens, entry.reply_tokens, entry.information_tokens
    )
    words = Words(route=entry.route_word)
    briefing = Briefing(words=words, stop=entry.stop)
    if entry.prompt is not None:
        briefing = Briefing(entry.prompt, "", words, entry.stop)
    return RoundsExpert(card, driver, pool, members, limits, briefing)


def _best_of(composer: Composer, entry: BestOfSettings, expert_id: str) -> Expert:
    children = composer.children(entry.drafters, expert_id)
    drafters = [child for child in children for _ in range(entry.n)]
    shares = [Share(child.card, entry.n) for child in children]
    selector: Selector
    if entry.judge is not None:
        judge = composer.expert(entry.judge, f"{expert_id}/judge")
        shares.append(Share(judge.card, 1, reads=len(drafters), writes=_SHORT_ANSWER))
        selector = JudgedByExpert(judge)
    else:
        signal = signal_of(entry.select or DeferSettings(), composer, expert_id)
        for child in children:
            shares += checks_of(signal, child.card, entry.n)
        selector = BySignal(signal)
    return BestOf(
        composer.card(entry, expert_id, shares, [Share(children[0].card, entry.min_successful)]),
        drafters,
        selector,
        temperature=entry.temperature,
        min_successful=entry.min_successful,
        at_once=entry.at_once,
        keep=_FOR_JUDGES if entry.judge is not None else 0.0,
    )


def _routed(composer: Composer, entry: RoutedSettings, expert_id: str) -> Expert:
    children = composer.children(entry.children, expert_id)
    signal = signal_of(entry.judged, composer, expert_id)
    most = min(entry.most_calls, len(children))
    # At least one of them is asked; which ones, and how many more, is known by outcomes only.
    expected = (1 + (most - 1) * _DEFERRED) / len(children)
    shares = [Share(child.card, expected) for child in children]
    for child in children:
        shares += checks_of(signal, child.card, expected)
    least = min(children, key=lambda child: _typical_usd(child.card))
    chooser: StepChooser = Lookahead(signal, entry.usd_weight, entry.stderr)
    if entry.planner is not None:
        # Few have one, and SciPy behind it takes longer to load than the rest of a gateway.
        from gateway.pool.planning import Planned, fitted_rule

        rule = fitted_rule(entry.planner, children, expert_id)
        same = grouping_of(entry.same, ALIKE)
        chooser = Planned(rule, signal, same, entry.usd_weight)
    card = composer.card(entry, expert_id, shares, [Share(least.card)])
    return Routed(card, children, chooser, most)


Builder = Callable[[Composer, Any, str], Expert]
BUILDERS: Mapping[type[CompositionSettings], Builder] = {
    CascadeSettings: _cascade,
    MedpromptSettings: mixing.medprompt,
    MixtureSettings: mixing.mixture,
    ModeSettings: mixing.mode,
    PanelSettings: mixing.panel,
    PeersSettings: mixing.peers,
    SelfMoaSettings: mixing.self_moa,
    TemplatesSettings: mixing.templates,
    VoteSettings: _vote,
    RoundsSettings: _rounds,
    BestOfSettings: _best_of,
    RoutedSettings: _routed,
}
"""One line per kind of composition."""
