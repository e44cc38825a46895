"""What is kept for `previous_response_id`, over SQLite and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from gateway.errors import ApiError, LedgerError
from gateway.ledger import tables
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from gateway.responses.store import KeptResponse, ResponseStore

T = TypeVar("T")
DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[ResponseStore]:
    made = ResponseStore(url, retention_days=2, max_rows=3, clock=clock)
    yield made
    made.close()


def run(work: Callable[[], Awaitable[T]]) -> T:
    async def inner() -> T:
        return await work()

    return anyio.run(inner)


def kept(name: str, previous: str | None = None, owner: str = "team") -> KeptResponse:
    said = {"id": f"msg-{name}", "type": "message", "role": "user", "content": f"ask {name}"}
    answer = {"id": f"out-{name}", "type": "message", "role": "assistant", "content": "\x00 ü"}
    return KeptResponse(name, owner, previous, (said,), {"id": name, "output": [answer]})


def save(store: ResponseStore, *responses: KeptResponse) -> None:
    for each in responses:
        run(lambda each=each: store.save(each))  # type: ignore[misc]


def test_what_is_kept_comes_back_as_it_was(store: ResponseStore) -> None:
    save(store, kept("a"))
    assert run(lambda: store.get("team", "a")) == kept("a")


def test_nobody_else_sees_or_removes_it(store: ResponseStore) -> None:
    save(store, kept("a"))
    assert run(lambda: store.get("other", "a")) is None
    assert run(lambda: store.forget("other", "a")) is False
    with pytest.raises(ApiError, match="'a' is not kept here"):
        run(lambda: store.conversation("other", "a"))
    assert run(lambda: store.get("team", "a")) is not None


def test_a_conversation_is_all_that_was_said_oldest_first(store: ResponseStore) -> None:
    save(store, kept("a"), kept("b", "a"), kept("c", "b"))
    items = run(lambda: store.conversation("team", "c"))
    assert [item["id"] for item in items] == [
        "msg-a", "out-a", "msg-b", "out-b", "msg-c", "out-c",
    ]  # fmt: skip


def test_a_conversation_with_a_gap_is_refused_and_the_gap_named(store: ResponseStore) -> None:
    save(store, kept("a"), kept("b", "a"))
    assert run(lambda: store.forget("team", "a")) is True
    with pytest.raises(ApiError, match="'a', which 'b' goes on from") as caught:
        run(lambda: store.conversation("team", "b"))
    assert caught.value.status == 400
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("name", ["\x00", "a\x00", "", "x" * 81, "a b"])
def test_names_that_no_response_has_are_not_looked_for(store: ResponseStore, name: str) -> None:
    assert run(lambda: store.get("team", name)) is None
    assert run(lambda: store.get("team", "\u2603")) is None


def test_a_response_that_goes_on_from_itself_ends_the_walk(store: ResponseStore) -> None:
    save(store, kept("a", "a"))
    with pytest.raises(ApiError, match="more than 1000"):
        run(lambda: store.conversation("team", "a"))


def test_old_ones_are_not_given_out_and_then_gone(store: ResponseStore, clock: Clock) -> None:
    save(store, kept("a"))
    clock.now += 1.9 * DAY_S
    save(store, kept("b"))
    assert run(lambda: store.get("team", "a")) is not None
    clock.now += 0.2 * DAY_S
    assert run(lambda: store.get("team", "a")) is None
    assert run(store.prune) == 1
    assert run(store.prune) == 0
    assert run(lambda: store.get("team", "b")) is not None


def test_the_oldest_beyond_the_most_rows_go(store: ResponseStore, clock: Clock) -> None:
    for name in "abcde":
        clock.now += 1
        save(store, kept(name))
    assert run(store.prune) == 2
    left = [name for name in "abcde" if run(lambda name=name: store.get("team", name))]  # type: ignore[misc]
    assert left == ["c", "d", "e"]


def test_deleted_text_is_on_no_disk(tmp_path: Path) -> None:
    store = ResponseStore(f"sqlite:///{tmp_path}/responses.db")
    secret = "pomegranate-" * 50
    body: dict[str, Any] = {"id": "a", "output": [{"id": "o", "text": secret}]}
    save(store, KeptResponse("a", "team", None, (), body), kept("b"))
    assert run(lambda: store.forget("team", "a"))
    store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"pomegranate" not in left
    assert b"ask b" in left


def test_it_lives_beside_the_ledger_in_one_database(url: str) -> None:
    for _ in range(2):
        with opened(url) as engine:
            store = ResponseStore(url)
            save(store, kept("a" if _ == 0 else "b"))
            assert LedgerReader(engine).count(tables.request) == 0
            store.close()


def test_a_database_that_went_away_is_an_error_with_words(
    store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = create_engine("sqlite:////nowhere/at/all.db")
    with pytest.raises(OperationalError):
        broken.connect()
    with monkeypatch.context() as patch:
        patch.setattr(store, "_engine", broken)
        with pytest.raises(LedgerError, match="store of responses"):
            run(lambda: store.save(kept("a")))
