"""The `ledger` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from gateway.settings.base import RESTART, Frozen, SecretUrl

Keep = Literal["none", "hash", "redacted", "full"]
Route = Literal[
    "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings"
]
ROUTES: Mapping[str, Route] = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
    "openai.completions": "/v1/completions",
    "openai.embeddings": "/v1/embeddings",
}
"""Which route speaks which wire."""
_MODES: tuple[Keep, ...] = get_args(Keep)
"""The least first."""


class LedgerSettings(Frozen):
    """Where the book is and what it keeps."""

    url: Annotated[SecretUrl, RESTART] = Field("sqlite:///data/ledger.db", repr=False)
    durability: Annotated[Literal["strict", "relaxed"], RESTART] = "strict"
    text: Keep = "hash"
    """What is kept of prompts and answers."""
    text_by_route: dict[Route, Keep] = Field(default_factory=dict)
    """The same for single routes, e.g. `{/v1/completions: redacted}`."""
    keep_text_days: Annotated[float | None, RESTART] = Field(None, gt=0)
    """After how many days prompts, answers and comments are blanked; None keeps them."""
    keep_text_days_by_route: Annotated[dict[Route, float], RESTART] = Field(default_factory=dict)
    """The same for single routes."""
    price_machines_hours: Annotated[float | None, RESTART] = Field(24, ge=1)
    """How often calls of our own experts are corrected to what their machine cost meanwhile, where
    that is said; None: never, as where several gateways with machines of their own share a book."""
    max_pending: Annotated[int, RESTART] = Field(40_000, ge=1)
    """Rows waiting to be written before new requests have to wait."""
    spool_mb: Annotated[int, RESTART] = Field(256, ge=0)
    """Megabytes under `data_dir` for rows while the database is away; 0: requests wait for it."""

    def keeps(self, wire: str, wish: Keep | None, *, admin: bool) -> Keep:
        """What is kept of the text of one request.

        Args:
            wire: Its API, e.g. "openai.chat".
            wish: What the client would have kept; None says nothing.
            admin: Whether it may have more kept than the settings say; everybody may have less.
        """
        usual = self.text_by_route.get(ROUTES[wire], self.text) if self.text_by_route else self.text
        if wish is None or wish == usual:
            return usual
        return wish if admin else min(usual, wish, key=_MODES.index)
