"""Lines for people that need no markup: what would draw it takes a while to load."""

from __future__ import annotations

import sys

from experts.engines.states import EngineState


def line(text: str) -> None:
    """A line of what is going on, apart from results, as it is."""
    sys.stderr.write(f"{text}\n")


def announce(state: EngineState) -> None:
    """One line per change of a local engine."""
    line(f"  engine {state.expert_id}: {state.status}")
