"""Builds mixtures, panels, and experts that are asked in another way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import numpy as np

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.cards import Share
from experts.compose.drafts import Drafting
from experts.compose.grouping import EXACT, NUMERIC
from experts.compose.medprompt import Medprompt
from experts.compose.mixture import Mixture, SequentialMixture, Team, TeamChooser, syntheses
from experts.compose.mode import INSTRUCTIONS, Mode
from experts.compose.panel import Panel
from experts.compose.peers import PrimaryWithPeers
from experts.compose.shelves import Example, Templated
from experts.compose.vote import ByExpectation, Voter, Weigher
from experts.messages import ChatRequest
from gateway.errors import ConfigError
from gateway.pool.deferring import grouping_of
from gateway.settings.composed import ChooseSettings, CompositionSettings
from gateway.settings.compositions import (
    MedpromptSettings,
    MixtureSettings,
    ModeSettings,
    PanelSettings,
    PeersSettings,
    SelfMoaSettings,
    TemplatesSettings,
    VoteSettings,
)
from routers.allocation.seats import SeatRules, seated
from routers.base import SlowEncoder
from routers.candidates import PRIOR_STDERR
from routers.errors import RoutingError
from routers.records import Floats
from routers.storage.shelf import Shelf

_BRIEF = 0.5
"""How long a peer's draft is, as a part of an answer."""


class Children(Protocol):
    """Who builds the children and makes cards of them, see `gateway.pool.composing.Composer`."""

    def children(
        self, children: Sequence[str | CompositionSettings], expert_id: str
    ) -> list[Expert]: ...

    def named(self, child: str | CompositionSettings, name: str, expert_id: str) -> Expert: ...

    def card(
        self,
        entry: CompositionSettings,
        expert_id: str,
        shares: Sequence[Share],
        least: Sequence[Share],
    ) -> ExpertCard: ...


class RouterChooser:
    """Seats whom the router expects to be best, as `routers.allocation.seats` says."""

    def __init__(self, rules: SeatRules) -> None:
        self._rules = rules

    async def choose(
        self, request: ChatRequest, cards: Sequence[ExpertCard], seats: int, call: Call
    ) -> Sequence[int]:
        known = await call.expects(request)
        if not any(card.expert_id in known for card in cards):
            # Priors of cards are guesses; what the configuration says is one, too, and was meant.
            return ()
        rows = [known.get(card.expert_id, (card.quality_prior, PRIOR_STDERR)) for card in cards]
        quality_A: Floats = np.array([quality for quality, _ in rows])
        stderr_A: Floats = np.array([stderr for _, stderr in rows])
        return seated(quality_A, stderr_A, seats, self._rules)


class LoadedShelf:
    """A shelf from disk, which is asked in a thread where its encoder takes long."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._slow = isinstance(shelf.encoder, SlowEncoder)

    async def near(self, question: str, most: int) -> Sequence[Example]:
        if self._slow:
            return await anyio.to_thread.run_sync(self._shelf.near, question, most)
        return self._shelf.near(question, most)


def mixture(children: Children, entry: MixtureSettings, expert_id: str) -> Expert:
    """Mixture of agents."""
    proposers = children.children(entry.of, expert_id)
    last = proposers[0]
    if entry.aggregator is not None:
        last = children.named(entry.aggregator, "aggregator", expert_id)
    count, further = len(proposers), entry.layers - 1
    # In every layer but the first each proposer reads all drafts of the one before.
    reads = count * (further - 1) / further if further else 0.0
    drafts = [Share(each.card, further, reads) for each in proposers] if further else []
    shares = [*drafts, Share(last.card, 1, count if further else 0)]
    least = drafts[: entry.min_successful] or shares
    return Mixture(
        children.card(
            entry,
            expert_id,
            shares,
            [share._replace(calls=1, reads=0) for share in least],
        ),
        Team(tuple(proposers), last),
        layers=entry.layers,
        drafting=_drafting(entry),
        chooser=_chooser(entry.choose),
    )


def self_moa(children: Children, entry: SelfMoaSettings, expert_id: str) -> Expert:
    """Self-MoA, or with a window Self-MoA-Seq."""
    (proposer,) = children.children([entry.of], expert_id)
    last = proposer
    if entry.aggregator is not None:
        last = children.named(entry.aggregator, "aggregator", expert_id)
    team = Team((proposer,) * entry.n, last)
    window = entry.window or max(entry.n, 2)
    shares = [
        Share(proposer.card, entry.n),
        Share(last.card, syntheses(entry.n, window), min(entry.n, window)),
    ]
    card = children.card(entry, expert_id, shares, [Share(proposer.card, entry.min_successful)])
    if entry.window is None:
        return Mixture(
            card,
            team,
            drafting=_drafting(entry),
        )
    return SequentialMixture(
        card,
        team,
        window=entry.window,
        drafting=_drafting(entry),
    )


def _drafting(entry: MixtureSettings | SelfMoaSettings) -> Drafting:
    return Drafting(entry.temperature, entry.draft_tokens, entry.min_successful, entry.at_once)


def peers(children: Children, entry: PeersSettings, expert_id: str) -> Expert:
    """Primary with peers."""
    others = children.children(entry.of, expert_id)
    primary = children.named(entry.primary, "primary", expert_id)
    shares = [
        *(Share(each.card, 1, writes=_BRIEF) for each in others),
        Share(primary.card, 1, reads=_BRIEF * len(others)),
    ]
    return PrimaryWithPeers(
        children.card(entry, expert_id, shares, [Share(primary.card)]),
        Team(tuple(others), primary),
        draft_tokens=entry.draft_tokens,
        at_once=entry.at_once,
        chooser=_chooser(entry.choose),
    )


def voters_of(entry: VoteSettings | PanelSettings, experts: Sequence[Expert]) -> list[Voter]:
    """Each expert with how often it answers and what an answer of it counts."""
    weights = entry.weights or (1.0,) * len(experts)
    return [Voter(each, entry.n, weight) for each, weight in zip(experts, weights, strict=True)]


def weigher_of(entry: VoteSettings | PanelSettings) -> Weigher | None:
    """What says what answers count, if it is not the settings."""
    return ByExpectation() if entry.router_weights else None


def panel(children: Children, entry: PanelSettings, expert_id: str) -> Expert:
    """Fusion panel."""
    members = children.children(entry.voters, expert_id)
    judge = children.named(entry.judge, "judge", expert_id)
    shares = [
        *(Share(each.card, entry.n) for each in members),
        Share(judge.card, 1, reads=entry.n * len(members)),
    ]
    least = [Share(each.card, 1) for each in members[: entry.min_successful]]
    return Panel(
        children.card(entry, expert_id, shares, least),
        voters_of(entry, members),
        judge,
        grouping_of(entry.same, entry.alike),
        drafting=Drafting(
            entry.temperature, min_successful=entry.min_successful, at_once=entry.at_once
        ),
        weigher=weigher_of(entry),
    )


def templates(children: Children, entry: TemplatesSettings, expert_id: str) -> Expert:
    """Thought templates."""
    (inner,) = children.children([entry.of], expert_id)
    shares = [Share(inner.card)]
    card = children.card(entry, expert_id, shares, shares)
    return Templated(card, inner, _shelf(entry.shelf, expert_id), entry.most)


def medprompt(children: Children, entry: MedpromptSettings, expert_id: str) -> Expert:
    """Medprompt."""
    (inner,) = children.children([entry.of], expert_id)
    shares = [Share(inner.card, entry.runs + entry.direct)]
    if entry.direct:
        # Whether a scratch-pad is needed is told in a word.
        shares.append(Share(inner.card, 1, writes=0))
    return Medprompt(
        children.card(entry, expert_id, shares, [Share(inner.card)]),
        inner,
        None if entry.shelf is None else _shelf(entry.shelf, expert_id),
        shots=entry.shots,
        runs=entry.runs,
        direct=entry.direct,
        temperature=entry.temperature,
        grouping=NUMERIC if entry.same == "numeric" else EXACT,
        at_once=entry.at_once,
    )


def mode(children: Children, entry: ModeSettings, expert_id: str) -> Expert:
    """One answer mode."""
    (inner,) = children.children([entry.of], expert_id)
    shares = [Share(inner.card)]
    told = INSTRUCTIONS[entry.how] if entry.instruction is None else entry.instruction
    card = children.card(entry, expert_id, shares, shares)
    return Mode(card, inner, told, entry.fields, entry.max_tokens)


def _chooser(entry: ChooseSettings | None) -> TeamChooser | None:
    return None if entry is None else RouterChooser(SeatRules(entry.margin, entry.mass))


def _shelf(path: Path, expert_id: str) -> LoadedShelf:
    try:
        return LoadedShelf(Shelf.load(path))
    except RoutingError as error:
        raise ConfigError(f"expert {expert_id!r}: {error}") from error
