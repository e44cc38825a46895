"""Who does the work of a command that can be spread over processes or machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from eval.crew import Crew, LocalCrew
from eval.ray_crew import RayCrew


@contextmanager
def crew_for(ray: str | None, jobs: int | None) -> Iterator[Crew]:
    """The Ray cluster at that address, or processes of this machine; so many pieces at a time."""
    if ray is None:
        yield LocalCrew(jobs or os.cpu_count() or 1)
        return
    with RayCrew(ray, jobs) as crew:
        yield crew
