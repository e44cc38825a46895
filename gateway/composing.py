"""Builds the experts that are made of others, children first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experts.base import Expert
from experts.compose.cards import Share
from experts.compose.cascade import Cascade, Stage
from experts.compose.deferral.base import Deferral, Gate
from experts.compose.deferral.confidence import Confidence
from experts.compose.deferral.gates import Bernoulli, Threshold
from experts.compose.grouping import EXACT, NUMERIC
from experts.compose.rounds.briefing import Briefing, Member
from experts.compose.rounds.driver import RoundsExpert, RoundsLimits
from experts.compose.rounds.grammar import Words
from experts.compose.vote import Vote, Voter
from gateway import mixing
from gateway.composed_cards import card_of
from gateway.settings.compositions import (
    CascadeSettings,
    CompositionSettings,
    DeferSettings,
    MedpromptSettings,
    MixtureSettings,
    ModeSettings,
    PanelSettings,
    PeersSettings,
    RoundsSettings,
    SelfMoaSettings,
    TemplatesSettings,
    VoteSettings,
)
from gateway.settings.experts import ExpertSettings


class Composer:
    """Builds compositions over the other experts of a pool.

    Args:
        entries: All of the pool's entries.
        experts: Those of them that are no compositions, by id.
        uniform: Draws from [0, 1), for rules that leave something to chance.
    """

    def __init__(
        self,
        entries: Sequence[ExpertSettings],
        experts: Mapping[str, Expert],
        uniform: Callable[[], float],
    ) -> None:
        self._entries = {e.id: e for e in entries if isinstance(e, CompositionSettings)}
        self._built = dict(experts)
        self.uniform = uniform

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

    def _composed(self, entry: CompositionSettings, expert_id: str) -> Expert:
        return BUILDERS[type(entry)](self, entry, expert_id)


_DEFERRED = 0.5
"""Part of the drafts that is expected to be deferred, until outcomes say more."""
_TURNS, _ASKED, _TURN_LENGTH = 2.2, 1.2, 2.0
"""Of a driver of rounds: turns, questions, and how much longer a turn is than the answer."""


def _cascade(composer: Composer, entry: CascadeSettings, expert_id: str) -> Expert:
    children = composer.children(entry.children, expert_id)
    rules = [_deferral(rule, composer) for rule in entry.rules]
    stages = [Stage(child, rule) for child, rule in zip(children[:-1], rules, strict=True)]
    shares = [
        Share(
            child.card, _DEFERRED**index * (1 + (rules[index].signal.calls if rules[index:] else 0))
        )
        for index, child in enumerate(children)
    ]
    return Cascade(card_of(entry, expert_id, shares, shares[:1]), stages, children[-1])


def _deferral(entry: DeferSettings, composer: Composer) -> Deferral:
    gate: Gate = Threshold(entry.accept_at, entry.hopeless_below)
    if entry.chance:
        gate = Bernoulli(composer.uniform)
    return Deferral(Confidence(entry.by, entry.power), gate)


def _vote(composer: Composer, entry: VoteSettings, expert_id: str) -> Expert:
    children = composer.children(entry.voters, expert_id)
    weights = entry.weights or (1.0,) * len(children)
    voters = [Voter(child, entry.n, each) for child, each in zip(children, weights, strict=True)]
    shares = [Share(child.card, entry.n) for child in children]
    least = [Share(child.card, 1) for child in children[: entry.min_successful]]
    return Vote(
        card_of(entry, expert_id, shares, least),
        voters,
        {"exact": EXACT, "numeric": NUMERIC}[entry.same],
        temperature=entry.temperature,
        min_successful=entry.min_successful,
        at_once=entry.at_once,
    )


def _rounds(composer: Composer, entry: RoundsSettings, expert_id: str) -> Expert:
    driver = composer.expert(entry.driver, f"{expert_id}/driver")
    pool = composer.children(entry.of, expert_id)
    # A driver that was trained asks hardly more than once; it reads what it is told with each turn.
    shares = [Share(driver.card, _TURNS, reads=1, writes=_TURN_LENGTH)]
    shares += [Share(child.card, _ASKED / len(pool)) for child in pool]
    card = replace(
        card_of(entry, expert_id, shares, shares[:1]),
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
    briefing = Briefing(words=words)
    if entry.prompt is not None:
        briefing = Briefing(entry.prompt, last="", words=words)
    return RoundsExpert(card, driver, pool, members, limits, briefing)


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
}
"""One line per kind of composition."""
