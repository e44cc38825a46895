"""Token counts as providers report them. Pure."""

from __future__ import annotations

from experts.messages import Json

MOST_TOKENS = 2**31 - 1
"""No answer has more of a kind, and the ledger has no room for more."""


def token_count(usage: Json, name: str) -> int:
    """What a provider's `usage` says under `name`, 0 if nothing.

    Raises:
        TypeError, ValueError: That is no number of tokens.
    """
    count = int(usage.get(name) or 0)
    if not 0 <= count <= MOST_TOKENS:
        raise ValueError(f"{name} is no number of tokens")
    return count
