"""A decision in one or two sentences for people."""

from __future__ import annotations

from routers.records import Decision


def explain(decision: Decision) -> str:
    """Why this expert, with the figures that settled it."""
    raise NotImplementedError
