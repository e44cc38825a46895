"""Keeps the keyring up with the ledger, so that every worker learns of a revocation."""

from __future__ import annotations

import logging
import threading

import anyio

from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.errors import LedgerError

_log = logging.getLogger(__name__)


class KeyWatch:
    """Asks the ledger for new key events. An outage changes nothing for keys that are known.

    Args:
        book: The ledger's keys.
        keyring: Takes them over.
    """

    def __init__(self, book: KeyBook, keyring: Keyring) -> None:
        self._book = book
        self._keyring = keyring
        self._size = 0
        # Held in worker threads only: an older state must not replace a newer one.
        self._reading = threading.Lock()

    def read(self) -> None:
        """Take over what is new. Waits for the database; raises LedgerError when it is away."""
        with self._reading:
            size = self._book.size()
            if size != self._size:
                self._keyring.take_over(self._book.states())
                self._size = size

    async def refresh(self) -> None:
        """Take over what is new, or note that the ledger is away."""
        try:
            await anyio.to_thread.run_sync(self.read)
        except LedgerError as error:
            if not self._keyring.ledger_down:
                _log.warning("keys that are not known here can't be checked: %s", error)
            self._keyring.ledger_down = True
        else:
            self._keyring.ledger_down = False
