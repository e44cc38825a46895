"""Progress with an ETA: bars on a terminal, a line now and then where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gateway.cli.console import err, say

_LINES = 4


@contextmanager
def counting(names: Sequence[str], total: int) -> Iterator[Callable[[str], None]]:
    """One count per name up to `total`; yields what to call after each step of a name."""
    if not err.is_terminal:
        counters = {name: _Lines(name, total) for name in names}
        yield lambda name: counters[name].step()
        return
    with Progress(*_columns(), console=err) as progress:
        bars = {name: progress.add_task(name, total=total) for name in names}
        yield lambda name: progress.advance(bars[name])


@contextmanager
def filling(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """One count up to `total`; yields what to call with how many more are done."""
    if not err.is_terminal:
        yield _Lines(what, total).step
        return
    with Progress(*_columns(), console=err) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda more: progress.advance(bar, more)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """Yields what to call with the stage that begins and the part done, in [0, 1]."""
    if not err.is_terminal:
        yield lambda what, done: say(f"  {done:4.0%} {what}")
        return
    with Progress(console=err) as progress:
        bar = progress.add_task("starting", total=1.0)
        yield lambda what, done: progress.update(bar, description=what, completed=done)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


class _Lines:
    """Says at every quarter how far it is and how long it will take."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._began = time.monotonic()

    def step(self, more: int = 1) -> None:
        quarter = max(1, self._total // _LINES)
        before, self._done = self._done // quarter, self._done + more
        if self._done // quarter == before and self._done != self._total:
            return
        elapsed = time.monotonic() - self._began
        left = elapsed / self._done * (self._total - self._done)
        say(f"  {self._name}: {self._done} of {self._total}, {elapsed:.0f} s, {left:.0f} s left")
