"""Who does independent pieces of work: this machine's processes here, a cluster's elsewhere."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from eval.errors import CrewError

Shared = TypeVar("Shared")
Piece = TypeVar("Piece")
Found = TypeVar("Found")


class Crew(Protocol):
    """Does pieces of work that need nothing from one another."""

    def each(
        self, work: Callable[[Shared, Piece], Found], shared: Shared, pieces: Sequence[Piece]
    ) -> Iterator[tuple[int, Found]]:
        """Do all pieces.

        Args:
            work: A function of a module, so that other processes find it.
            shared: What every piece is done with; sent to each process once.
            pieces: One call of `work` each.

        Yields:
            The place of a piece and what came of it, as they are done.

        Raises:
            CrewError: Whoever did a piece died.
        """
        ...


class LocalCrew:
    """Processes of this machine.

    With more than one job, a program that uses this must guard its main part with
    `if __name__ == "__main__"`: the others are fresh processes, which share no memory and no
    locks with this one.

    Args:
        jobs: How many pieces at a time, >= 1; a single one is done in this process.
    """

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = jobs

    def each(
        self, work: Callable[[Shared, Piece], Found], shared: Shared, pieces: Sequence[Piece]
    ) -> Iterator[tuple[int, Found]]:
        if self._jobs == 1 or len(pieces) < 2:
            for place, piece in enumerate(pieces):
                yield place, work(shared, piece)
            return
        processes = ProcessPoolExecutor(
            min(self._jobs, len(pieces)),
            multiprocessing.get_context("spawn"),
            _hold,
            (work, shared),
        )
        try:
            futures = {processes.submit(_work, piece): at for at, piece in enumerate(pieces)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise CrewError(
                "a working process was killed, as the system does when memory runs out; "
                "with --jobs 1 less is needed at a time"
            ) from error
        finally:
            processes.shutdown(cancel_futures=True)


class _Held:
    """What a process of the crew was given when it started."""

    work: Callable[[Any, Any], Any] | None = None
    shared: Any = None


def _hold(work: Callable[[Any, Any], Any], shared: Any) -> None:
    _Held.work, _Held.shared = work, shared


def _work(piece: Any) -> Any:
    if _Held.work is None:
        raise RuntimeError("this process was given nothing to work with")
    return _Held.work(_Held.shared, piece)
