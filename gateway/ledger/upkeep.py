"""What a gateway does for its ledger beside its requests: forget old texts, sum up closed hours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def upkeep(url: str, settings: LedgerSettings, every_s: float = _EVERY_S) -> Iterator[None]:
    """Forget what is due and sum up what is closed, now and every hour, while the context is open.

    In a thread with a connection of its own: no request waits for it.
    """
    days = days_by_wire(settings)
    ending = threading.Event()

    def pause(_: int) -> None:
        ending.wait(_PAUSE_S)

    def keep() -> None:
        while not ending.is_set():
            try:
                with opened(url) as engine:
                    if days:
                        forget(engine, days, pause_s=_PAUSE_S)
                    summed(engine, progress=pause)
            except (LedgerError, SQLAlchemyError) as error:
                _log.warning("the ledger's upkeep failed, the next try is later: %s", error)
            ending.wait(every_s)

    thread = threading.Thread(target=keep, name="ledger-upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(timeout=5)
