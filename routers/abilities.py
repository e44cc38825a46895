"""What a request needs an expert to be able to, and whether its card says so.

Of each ability a card says yes, no, or nothing. Who says no is never asked under `auto`; who says
nothing is asked where nobody who could serve the request says yes, or all who do have failed.
"""

from __future__ import annotations

from collections.abc import Sequence

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from experts.record import record
from routers.errors import Unstated

_TEXT = frozenset({"text"})


@record()
class Needs:
    """The abilities that one request needs.

    Attributes:
        tools: Whether it has tools to be called.
        schema: Whether it wants its answer in a `response_format`.
        modalities: What has to be read.
    """

    tools: bool
    schema: bool
    modalities: frozenset[str]

    @classmethod
    def of(cls, request: ChatRequest) -> Needs:
        """What `request` needs."""
        return cls(request.needs_tools, request.needs_schema, request.modalities)

    def lacked(self, card: ExpertCard) -> str | None:
        """What the card says it can't, as a reason."""
        if card.modalities is not None and (missing := self.modalities - card.modalities):
            return f"cannot read {', '.join(sorted(missing))}"
        if self.tools and card.tools is False:
            return "cannot call tools"
        if self.schema and card.structured_output is False:
            return "does not honour response_format"
        return None

    def unstated(self, card: ExpertCard) -> tuple[str, ...]:
        """Of what it needs, the settings that say nothing: `modalities`, `tools` and so on."""
        asked = (
            ("modalities", card.modalities, bool(self.modalities - _TEXT)),
            ("tools", card.tools, self.tools),
            ("structured_output", card.structured_output, self.schema),
        )
        return tuple(name for name, said, needed in asked if needed and said is None)


NOTHING = Needs(tools=False, schema=False, modalities=frozenset())


def whoever_says_so(
    sure: Sequence[ExpertCard], unsure: Sequence[tuple[ExpertCard, tuple[str, ...]]]
) -> tuple[tuple[ExpertCard, ...], dict[str, str]]:
    """Those whose cards state what is needed, or, without any, those that don't say.

    Args:
        sure: Who can serve a request and says so, sorted by id.
        unsure: Who may be able to, sorted by id, with the settings that say nothing.

    Returns:
        Whom to choose from, and reasons why not the others, each `Unstated`.
    """
    if not sure:
        return tuple(card for card, _ in unsure), {}
    return tuple(sure), {card.expert_id: _silent(settings) for card, settings in unsure}


def _silent(settings: Sequence[str]) -> Unstated:
    named = ", ".join(f"`{name}`" for name in settings)
    reason = f"does not say whether it can serve this ({named} of its settings), and others do"
    return Unstated(f"{reason}: it is asked when they fail")
