"""Where the commands that train keep the vectors of slow encoders, and how they show progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from routers.encoders.vector_store import VectorStore

Folder = Annotated[
    Path | None,
    typer.Option("--vectors", help="Keeps what slow encoders made; the user's cache by default."),
]
_STEPS = 10


def vector_store(
    folder: Path | None, progress: Callable[[str, float], None], share: float = 1.0
) -> VectorStore:
    """The store of vectors in `folder`, or in the user's cache.

    Args:
        folder: As it was asked for.
        progress: Told every tenth of what has to be encoded, and the part done.
        share: Of all work, what encoding is, in (0, 1].
    """
    told: set[tuple[int, int]] = set()

    def tell(done: int, total: int) -> None:
        step = (total, _STEPS * done // total)
        if step not in told:
            told.add(step)
            progress(f"{done} of {total} texts encoded", share * done / total)

    return VectorStore(folder or _user_cache(), progress=tell)


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pointsman" / "vectors"
