from __future__ import annotations

from typing import Any

import pytest

from gateway.reload.changes import needs_restart
from gateway.settings.root import Settings


def taking_turns(*names: str) -> Settings:
    """Servers that share one device; how much each takes is in its own entry."""
    server: dict[str, Any] = {"kind": "vllm", "model": "m", "memory_gb": 50}
    return Settings.model_validate(
        {
            "devices": [{"id": "0", "memory_gb": 80}],
            "experts": [{"id": name, **server} for name in names],
            "residency": {"experts": {name: {} for name in names}},
        }
    )


@pytest.mark.parametrize(("later", "changed"), [("a", "b"), ("abc", "c"), ("ab", "")])
def test_who_takes_turns_can_change_at_a_restart_only(later: str, changed: str) -> None:
    """Also where nothing more is said of them there."""
    problems = needs_restart(taking_turns("a", "b"), taking_turns(*later))
    assert [place for place, _ in problems] == [("residency", "experts", name) for name in changed]
