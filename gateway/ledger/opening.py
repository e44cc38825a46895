"""The ledger of a gateway, as its settings have it."""

from __future__ import annotations

from gateway.ledger.database import open_database
from gateway.ledger.spool import Spools
from gateway.ledger.store import Ledger
from gateway.settings.root import Settings

_MB = 1024 * 1024


def open_ledger(settings: Settings) -> Ledger:
    """Connect, migrate, take over what earlier processes have put aside, and begin to write.

    Raises:
        ConfigError, LedgerError: See `open_database`.
    """
    wanted = settings.ledger
    strict = wanted.durability == "strict"
    engine = open_database(settings.ledger_url, durable=strict)
    folder, size = settings.data_dir / "spool", wanted.spool_mb * _MB
    spools = Spools(folder, size) if size else None
    return Ledger(engine, strict=strict, max_pending=wanted.max_pending, spools=spools)
