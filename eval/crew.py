"""Trains the routers of a comparison, several at a time, each in one thread of one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from eval.training import Bench, Failed, Trained, train_router

Told = Callable[[str, int], None]


class _Held:
    """What a process of the crew was given when it started."""

    bench: Bench | None = None


def train_all(
    encoders: Mapping[str, str], bench: Bench, jobs: int, tell: Told
) -> list[Trained | Failed]:
    """Train every router; what is found does not depend on `jobs`.

    With more than one job, a program that calls this must guard its main part with
    `if __name__ == "__main__"`: the others are fresh processes, which share no memory and no
    locks with this one.

    Args:
        encoders: Router to the encoder it looks through, in the order of the results.
        bench: What with.
        jobs: How many at a time, >= 1.
        tell: Called with the name of a router and how many are done, when it begins (one job) or
            is done (several).
    """
    if jobs == 1 or len(encoders) == 1:
        found = []
        for done, (name, encoder) in enumerate(encoders.items()):
            tell(name, done)
            found.append(train_router(name, encoder, bench))
        return found
    with ProcessPoolExecutor(
        min(jobs, len(encoders)), multiprocessing.get_context("spawn"), _hold, (bench,)
    ) as crew:
        futures = {crew.submit(_work, name, encoders[name]): name for name in encoders}
        return _gathered(futures, tell)


def _gathered(
    futures: Mapping[Future[Trained | Failed], str], tell: Told
) -> list[Trained | Failed]:
    for done, future in enumerate(as_completed(futures), start=1):
        future.result()
        tell(futures[future], done)
    return [future.result() for future in futures]


def _hold(bench: Bench) -> None:
    _Held.bench = bench


def _work(name: str, encoder: str) -> Trained | Failed:
    if _Held.bench is None:
        raise RuntimeError("this process was given nothing to work with")
    return train_router(name, encoder, _Held.bench)
