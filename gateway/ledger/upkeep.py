"""What a gateway does for its ledger beside its requests: forget texts, price machines, sum up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import LedgerError
from gateway.ledger.database import opened
from gateway.ledger.forget import days_by_wire, forget
from gateway.ledger.rollup import summed
from gateway.settings.ledger import LedgerSettings

_log = logging.getLogger(__name__)
_EVERY_S = 3_600.0
# Between batches, so that who writes for a client never waits for more than one.
_PAUSE_S = 0.05


class Price(Protocol):
    """Corrects what calls have cost; `ending` says that no more will come."""

    def due(self, *, ending: bool = False) -> bool:
        """Whether it is time to."""
        ...

    def __call__(self, engine: Engine, *, ending: bool = False) -> None:
        """Do it, if it is due."""
        ...


@contextmanager
def upkeep(
    url: str, settings: LedgerSettings, price: Price | None = None, every_s: float = _EVERY_S
) -> Iterator[None]:
    """Forget what is due and sum up what is closed, now and every hour, while the context is open.

    In a thread with a connection of its own: no request waits for it. Calls are priced by what
    their machines cost before they are summed up, and at the end those that were not yet.
    """
    days = days_by_wire(settings)
    ending = threading.Event()

    def pause(_: int) -> None:
        ending.wait(_PAUSE_S)

    def tend() -> None:
        with opened(url) as engine:
            if days:
                forget(engine, days, pause_s=_PAUSE_S)
            if price is not None:
                price(engine)
            summed(engine, progress=pause)

    def settle() -> None:
        if price is not None and price.due(ending=True):
            with opened(url) as engine:
                price(engine, ending=True)

    def keep() -> None:
        while not ending.is_set():
            _tried(tend)
            ending.wait(every_s)
        _tried(settle)

    thread = threading.Thread(target=keep, name="ledger-upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(timeout=5)


def _tried(work: Callable[[], None]) -> None:
    try:
        work()
    except (LedgerError, SQLAlchemyError) as error:
        _log.warning("the ledger's upkeep failed: %s", error)
