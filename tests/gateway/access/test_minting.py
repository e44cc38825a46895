"""Keys of the ledger: made, rotated, revoked, and never worth more than their giver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.pool import StaticPool

from gateway.access.book import KeyBook, KeyEvent
from gateway.access.keyring import Keyring
from gateway.access.keys import LOCAL, Key, digest
from gateway.access.minting import Minter
from gateway.errors import ApiError, LedgerError
from gateway.ledger import tables
from gateway.ledger.database import open_database
from gateway.ledger.verify import verify_ledger
from gateway.settings.access import Grant, KeySettings
from tests.gateway.access.strategies import grants, names

ADMIN = KeySettings(name="root", key="root-key-1", role="admin")


class Office:
    """A minter over a real ledger, and the keyring that follows it."""

    def __init__(self, engine: Engine, *keys: KeySettings) -> None:
        self.book = KeyBook(engine)
        self.keyring = Keyring(keys)
        self.minter = Minter(self.book, self.keyring)

    def key(self, name: str) -> Key:
        return self.keyring.linked(self.book.states())[name]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path}/ledger.db", durable=False)
    yield opened
    opened.dispose()


@pytest.fixture
def office(engine: Engine) -> Office:
    return Office(engine, ADMIN)


def refused(change: Callable[[], object]) -> tuple[int, str | None, str | None]:
    with pytest.raises(ApiError) as raised:
        change()
    return raised.value.status, raised.value.code, raised.value.param


def test_only_the_digest_of_a_secret_is_kept(office: Office, engine: Engine) -> None:
    minted = office.minter.create(None, "team", Grant())
    assert minted.secret.startswith("pm-")
    assert len(minted.secret) > 40
    with engine.connect() as connection:
        (row,) = connection.execute(select(tables.key)).mappings().all()
    assert row["digest"] == digest(minted.secret)
    assert minted.secret not in str(dict(row))


def test_rotation_leaves_both_secrets_until_the_grace_ends(office: Office) -> None:
    first = office.minter.create(None, "team", Grant()).secret
    second = office.minter.rotate(None, "team", grace_s=60).secret
    third = office.minter.rotate(None, "team", grace_s=3600).secret
    ends = office.book.states()["team"].digests
    assert ends[digest(third)] is None
    until_first, until_second = ends[digest(first)], ends[digest(second)]
    assert until_first is not None
    assert until_second is not None
    assert until_first < until_second


def test_the_ledger_proves_the_events_of_its_keys(office: Office, engine: Engine) -> None:
    office.minter.create(None, "team", Grant())
    office.minter.change(None, "team", Grant(project="red"))
    office.minter.rotate(None, "team")
    office.minter.revoke(None, "team")
    assert verify_ledger(engine).faults == ()
    office.book.add(KeyEvent("team", 5, 0.0, "rotated", digest="0" * 64))
    office.book.add(KeyEvent("ghost", 0, 0.0, "revoked"))
    faults = verify_ledger(engine).faults
    assert len(faults) == 3
    assert any("ghost" in fault for fault in faults)


def test_a_ledger_that_is_away_is_said_without_what_was_to_be_written(
    office: Office, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE key RENAME TO away"))
    event = KeyEvent("team", 0, 0.0, "created", digest="0" * 64, grant=Grant())
    with pytest.raises(LedgerError, match=r"written: no such table: key$"):
        office.book.add(event)
    for read in (office.book.states, office.book.size):
        with pytest.raises(LedgerError, match=r"read: no such table: key$"):
            read()


def test_two_writers_never_add_the_same_event(office: Office) -> None:
    office.minter.create(None, "team", Grant())
    with pytest.raises(ApiError, match="look again"):
        office.book.add(KeyEvent("team", 0, 0.0, "created", digest="0" * 64, grant=Grant()))


def test_a_name_is_used_once_and_for_all(office: Office) -> None:
    office.minter.create(None, "team", Grant())
    office.minter.revoke(None, "team")
    for name in ("team", "root"):
        create = lambda name=name: office.minter.create(None, name, Grant())  # noqa: E731
        assert refused(create) == (409, "key_exists", "name")
    assert refused(lambda: office.minter.rotate(None, "team"))[:2] == (409, "key_revoked")
    assert refused(lambda: office.minter.revoke(None, "root"))[:2] == (409, "key_in_configuration")
    assert refused(lambda: office.minter.revoke(None, "nobody"))[:2] == (404, "key_not_found")


@pytest.mark.parametrize("name", ["", "a/b", " a", "a b", "x" * 201, "-a", "ä b", "a\n"])
def test_a_name_that_could_not_be_a_path_is_refused(office: Office, name: str) -> None:
    assert refused(lambda: office.minter.create(None, name, Grant()))[0] == 400


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"role": "admin"}, "role"),
        ({"project": "other"}, "project"),
        ({"routes": ["/*"]}, "routes"),
        ({"experts": ["*"]}, "experts"),
        ({"policies": ["best"]}, "policies"),
        ({"expires_at": 4e10}, "expires_at"),
        ({"limits": [{"usd": 11, "per": "day"}]}, "limits"),
        ({"session_limits": [{"requests": 10, "per": "hour"}]}, "session_limits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manager_grants_nothing_that_it_lacks(
    office: Office, more: dict[str, object], field: str
) -> None:
    has = {
        "role": "manager",
        "project": "red",
        "routes": ["/v1/*"],
        "experts": ["small-*"],
        "policies": ["cheap"],
        "expires_at": 3e10,
        "limits": [{"usd": 10, "per": "day"}],
        "session_limits": [{"requests": 9, "per": "hour"}],
    }
    office.minter.create(None, "boss", Grant.model_validate(has))
    wanted = Grant.model_validate(more)
    create = lambda: office.minter.create(office.key("boss"), "child", wanted)  # noqa: E731
    assert refused(create) == (403, "grant_exceeds_key", field)
    assert "child" not in office.book.states()


def test_callers_and_keys_that_are_gone_make_nothing(office: Office) -> None:
    office.minter.create(None, "team", Grant())
    office.minter.create(None, "boss", Grant(role="manager"))
    team, boss = office.key("team"), office.key("boss")
    assert refused(lambda: office.minter.create(team, "x", Grant()))[:2] == (403, "not_manager")
    office.minter.revoke(None, "boss")
    # The actor is what the ledger says now, not what this process read a second ago.
    assert refused(lambda: office.minter.create(boss, "x", Grant()))[:2] == (403, "not_manager")
    assert refused(lambda: office.minter.create(LOCAL, "x", Grant()))[:2] == (403, "not_manager")


def test_without_any_key_this_machine_makes_the_first(engine: Engine) -> None:
    office = Office(engine)
    office.minter.create(LOCAL, "first", Grant(role="admin"))
    assert refused(lambda: office.minter.create(LOCAL, "second", Grant()))[0] == 403


def test_a_manager_looks_after_what_it_granted_and_nothing_else(office: Office) -> None:
    for name in ("boss", "rival"):
        office.minter.create(None, name, Grant(role="manager"))
    office.minter.create(office.key("boss"), "lead", Grant(role="manager"))
    office.minter.create(office.key("lead"), "intern", Grant())
    boss, rival = office.key("boss"), office.key("rival")
    assert [each.name for each in office.minter.seen_by(boss)] == ["boss", "intern", "lead"]
    assert [each.name for each in office.minter.seen_by(rival)] == ["rival"]
    assert refused(lambda: office.minter.rotate(rival, "intern"))[:2] == (404, "key_not_found")
    assert refused(lambda: office.minter.revoke(rival, "intern"))[:2] == (404, "key_not_found")
    office.minter.create(office.key("root"), "staff", Grant())
    assert refused(lambda: office.minter.revoke(rival, "staff"))[:2] == (404, "key_not_found")
    office.minter.revoke(boss, "lead")
    assert "intern" not in office.keyring.linked(office.book.states())


def test_a_weaker_admin_cannot_take_over_a_stronger_key(office: Office) -> None:
    office.minter.create(None, "weak", Grant(role="admin", experts=("small",)))
    office.minter.create(None, "strong", Grant(role="admin"))
    weak = office.key("weak")
    assert refused(lambda: office.minter.rotate(weak, "strong"))[1:] == (
        "grant_exceeds_key",
        "experts",
    )
    # Not even to less than it has itself: who made the key stronger meant it to be.
    less = Grant(experts=("small",))
    assert refused(lambda: office.minter.change(weak, "strong", less))[1:] == (
        "grant_exceeds_key",
        "experts",
    )


def test_a_change_replaces_what_it_names_and_goes_no_further_than_its_actor(
    office: Office,
) -> None:
    has = {"role": "manager", "limits": [{"requests": 60, "per": "minute"}]}
    office.minter.create(None, "boss", Grant.model_validate(has))
    office.minter.create(office.key("boss"), "team", Grant(experts=("small",)))
    boss = office.key("boss")
    less = Grant.model_validate({"limits": [{"requests": 6, "per": "minute"}]})
    changed = office.minter.change(boss, "team", less).grant
    assert (changed.experts, changed.limits) == (("small",), less.limits)
    more = Grant.model_validate({"limits": [{"requests": 61, "per": "minute"}]})
    for name in ("team", "boss"):
        change = lambda name=name: office.minter.change(boss, name, more)  # noqa: E731
        assert refused(change) == (403, "grant_exceeds_key", "limits")
    office.minter.change(None, "boss", more)
    assert office.minter.change(office.key("boss"), "team", more).grant.limits == more.limits
    assert refused(lambda: office.minter.change(office.key("team"), "team", less))[0] == 403


def test_keys_are_not_granted_without_end(office: Office) -> None:
    actor: Key | None = None
    for step in range(8):
        office.minter.create(actor, f"k{step}", Grant(role="manager"))
        actor = office.key(f"k{step}")
    assert refused(lambda: office.minter.create(actor, "k8", Grant()))[0] == 403


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(grants(), st.integers(0, 3)), min_size=1, max_size=5),
    names,
    st.sampled_from(["routes", "experts", "policies"]),
)
def test_whatever_is_granted_lies_within_every_giver(
    wanted: list[tuple[Grant, int]], name: str, field: str
) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    tables.metadata.create_all(engine)
    office = Office(engine)
    made: list[str] = []
    try:
        for index, (grant, giver) in enumerate(wanted):
            actor = office.key(made[giver % len(made)]) if made else None
            try:
                office.minter.create(actor, f"k{index}", grant)
            except ApiError as error:
                assert error.status == 403  # noqa: PT017 - refusals are half of what is drawn
                continue
            made.append(f"k{index}")
        for child in (office.key(each) for each in made):
            for above in child.lineage[1:]:
                _assert_within(child, above, field, name)
    finally:
        engine.dispose()


def _assert_within(child: Key, giver: Key, field: str, name: str) -> None:
    may = {"routes": Key.may_visit, "experts": Key.may_ask, "policies": Key.may_follow}[field]
    assert not may(child, name) or may(giver, name)
    assert not child.admin or giver.admin
    assert not child.manages or giver.manages
    assert giver.admin or child.project == giver.project
    assert (child.expires_at or 9e99) <= (giver.expires_at or 9e99)
    for limits in ("limits", "session_limits"):
        own = {(each.unit, each.per): each.amount for each in getattr(child.grant, limits)}
        for limit in getattr(giver.grant, limits):
            assert own[limit.unit, limit.per] <= limit.amount
