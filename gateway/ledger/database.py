"""Opens the ledger's database, SQLite or PostgreSQL, and brings its schema up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, column, create_engine, event, inspect, select, table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gateway.errors import ConfigError, LedgerError

_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}

_CHECKS = "foreign_keys"
"""What a connection to SQLite says of itself: whether it looks up what a row refers to."""

# How long SQLite waits for other writers.
_WAIT_MS, _HURRIED_MS = 30_000, 1_000
# A server that is gone without a word is noticed within seconds, unless the URL says otherwise.
_NOTICES = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}


class Schema(NamedTuple):
    """Some tables of a database: how they are made, and where it says which are there."""

    migrations: Path
    """Alembic's folder."""
    version_table: str = "alembic_version"

    def newest(self) -> str:
        """The last revision of the folder, whose files are called `v<revision>_<what>.py`."""
        names = [path.name for path in (self.migrations / "versions").glob("v*_*.py")]
        return max(names).removeprefix("v").split("_")[0]


LEDGER = Schema(Path(__file__).parent / "migrations")


def open_database(url: str, *, durable: bool = True, schema: Schema = LEDGER) -> Engine:
    """Connect, migrate, return the engine.

    Args:
        url: `sqlite:///path` or `postgresql://user@host/name`.
        durable: SQLite waits for the disk at each commit; PostgreSQL always does.
        schema: The tables that are wanted; the ledger's own.

    Raises:
        ConfigError: The URL is of no kind we know.
        LedgerError: The database can't be opened or migrated.
    """
    engine = connect(url, durable=durable)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # Several workers start at once; one migrates, the others wait and find it done.
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7406)")
            if _revision(connection, schema.version_table) != schema.newest():
                _migrate(connection, schema.migrations)
    except SQLAlchemyError as error:
        engine.dispose()
        # Of what the driver says; SQLAlchemy adds lines with links.
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LedgerError(f"the database at {_shown(url)} can't be opened: {why}") from error
    return engine


def _revision(connection: Connection, version_table: str) -> str | None:
    if not inspect(connection).has_table(version_table):
        return None
    found: str | None = connection.scalar(
        select(column("version_num")).select_from(table(version_table))
    )
    return found


def _migrate(connection: Connection, migrations: Path) -> None:
    # Not at the top: a gateway whose tables are up to date starts faster and smaller without.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """`open_database` for as long as the context is open."""
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def existing(url: str) -> Iterator[Engine]:
    """`opened` for who only reads: a misspelt path is told, and no empty database made of it.

    Raises:
        LedgerError: There is none.
    """
    path = parse_database_url(url).database or ":memory:"
    if url.startswith("sqlite") and path != ":memory:" and not Path(path).exists():
        raise LedgerError(f"there is no ledger at {path}")
    with opened(url) as engine:
        yield engine


def connect(url: str, *, durable: bool = True) -> Engine:
    """An engine for `url`, its schema as it is."""
    parsed = parse_database_url(url)
    base = parsed.drivername.split("+")[0]
    if base != "sqlite":
        url_of = parsed.set(drivername=_DRIVERS[base]).update_query_dict(
            {name: value for name, value in _NOTICES.items() if name not in parsed.query}
        )
        return create_engine(url_of, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        path = Path(parsed.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        # What people wrote is nobody else's on this machine; SQLite's files beside it follow suit.
        with suppress(OSError):
            # If it can't be made, SQLite says why.
            path.touch(mode=0o600, exist_ok=False)
    engine = create_engine(parsed, connect_args={"timeout": _WAIT_MS / 1000})
    _tune_sqlite(engine, "FULL" if durable else "NORMAL")
    return engine


def parse_database_url(url: str) -> URL:
    """The parts of a URL of a kind we know, or ConfigError, which never quotes it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError("ledger.url is no database URL") from error
    base = parsed.drivername.split("+")[0]
    if base not in _DRIVERS:
        raise ConfigError(f"ledger.url must be sqlite:// or postgresql://, got {base!r}")
    return parsed


def _tune_sqlite(engine: Engine, synchronous: str) -> None:
    @event.listens_for(engine, "connect")
    def pragmas(connection: Any, _record: object) -> None:
        # The driver's own transaction start would let two processes migrate at once.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            f"busy_timeout={_WAIT_MS}",
            # Nothing that is set aside within a transaction needs a file.
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        options = connection.get_execution_options()
        checks = "OFF" if options.get("certain", False) else "ON"
        if connection.info.get(_CHECKS) != checks:
            # To be said outside of a transaction. It stays with the connection, and SQLite compiles
            # every statement anew after it, so it is not said twice.
            connection.exec_driver_sql(f"PRAGMA foreign_keys={checks}")
            connection.info[_CHECKS] = checks
        if options.get("reads", False):
            connection.exec_driver_sql("BEGIN")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout={options.get('wait_ms', _WAIT_MS)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def reader(engine: Engine) -> Engine:
    """The same database for queries: never waits for, nor holds up, the writer."""
    return engine.execution_options(reads=True)


def hurried(engine: Engine) -> Engine:
    """The same database for who waits a second for other writers, and then does something else."""
    return engine.execution_options(wait_ms=_HURRIED_MS)


def certain(engine: Engine) -> Engine:
    """The same database for rows that surely refer to rows that are there: SQLite does not look.

    Looking takes a quarter of the time of an insert.
    """
    return engine.execution_options(certain=True)


def _shown(url: str) -> str:
    # Behind the `?` there may be another password.
    return make_url(url).set(query={}).render_as_string(hide_password=True)
