"""What an expert may be called."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# It goes into headers of answers and into paths, so it has no letters but ASCII's.
ExpertId = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]*$")
]
