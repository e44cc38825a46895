"""Which secrets open the gateway, and when they stop to."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.access.book import KeyBook, KeyState
from gateway.access.keyring import UNVERIFIED, Keyring
from gateway.access.keys import LOCAL, Key, digest
from gateway.access.minting import Minter
from gateway.access.watch import KeyWatch
from gateway.errors import ApiError
from gateway.ids import now
from gateway.ledger.database import open_database
from gateway.settings.access import Grant, KeySettings
from gateway.telemetry.redaction import Redactor

CHAT = "/v1/chat/completions"
SECRET = "pm-s"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def state(name: str, secret: str = SECRET, by: str | None = None, **grant: Any) -> KeyState:
    return KeyState(name, Grant.model_validate(grant), by, now(), {digest(secret): None})


def ring(*states: KeyState, keys: tuple[KeySettings, ...] = (), **options: Any) -> Keyring:
    made = Keyring(keys, **options)
    made.take_over({each.name: each for each in states})
    return made


def refused(keyring: Keyring, headers: dict[str, str], path: str = CHAT) -> tuple[int, str | None]:
    with pytest.raises(ApiError) as raised:
        keyring.find(headers, "127.0.0.1", path)
    return raised.value.status, raised.value.code


def test_what_is_said_to_who_brings_no_key_is_not_taken_for_a_secret() -> None:
    keyring = ring(keys=(KeySettings(name="team", key="team-key-1"),))
    for headers in ({}, bearer("wrong-key")):
        with pytest.raises(ApiError) as raised:
            keyring.find(headers, None, CHAT)
        assert Redactor().text(raised.value.message) == raised.value.message


def test_without_keys_this_machine_is_the_admin_and_strangers_are_not() -> None:
    assert Keyring().find({}, "127.0.0.1", CHAT).admin
    assert not Keyring().find({}, "192.0.2.7", CHAT).admin
    assert not Keyring().find({}, None, CHAT).admin


@pytest.mark.parametrize(
    "headers",
    [
        bearer("team-key-1"),
        {"authorization": "bearer  team-key-1 "},
        {"x-api-key": "team-key-1"},
        {"api-key": "team-key-1"},
        {"x-api-key": "", "api-key": "team-key-1"},
        {"authorization": "Basic " + base64.b64encode(b"anybody:team-key-1").decode()},
    ],
    ids=["bearer", "loose", "x-api-key", "api-key", "beside an empty one", "browser"],
)
def test_a_key_comes_in_any_of_its_headers(headers: dict[str, str]) -> None:
    for kept in ("team-key-1", f"sha256:{digest('team-key-1').upper()}"):
        keyring = ring(keys=(KeySettings(name="team", key=kept),))
        assert keyring.find(headers, None, CHAT).name == "team"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        (bearer(""), "missing_api_key"),
        (bearer("team-key"), "invalid_api_key"),
        (bearer("team-key-1x"), "invalid_api_key"),
        (bearer(digest("team-key-1")), "invalid_api_key"),
        ({"authorization": "Basic !"}, "missing_api_key"),
        (bearer("\x00' OR 1=1 --"), "invalid_api_key"),
        ({"api-key": "team-key"}, "invalid_api_key"),
        ({"api-key": ""}, "missing_api_key"),
        ({**bearer("wrong"), "api-key": "team-key-1"}, "invalid_api_key"),
        ({"x-api-key": "wrong", "api-key": "team-key-1"}, "invalid_api_key"),
    ],
    ids=[
        *("none", "empty", "prefix", "longer", "its-digest", "no-base64", "sql", "azure's"),
        *("azure's empty", "behind a bearer's", "behind anthropic's"),
    ],
)
def test_anything_else_is_401(headers: dict[str, str], code: str) -> None:
    keyring = ring(keys=(KeySettings(name="team", key="team-key-1"),))
    assert refused(keyring, headers) == (401, code)


def test_secrets_that_begin_alike_are_told_apart() -> None:
    keyring = ring(state("a", "pm-" + "x" * 40 + "1"), state("b", "pm-" + "x" * 40 + "2"))
    assert keyring.find(bearer("pm-" + "x" * 40 + "2"), None, CHAT).name == "b"


def test_a_revoked_key_and_all_it_granted_are_closed() -> None:
    boss = state("boss", "pm-boss", role="manager")
    states = [state("team", "pm-team", "boss"), state("intern", "pm-intern", "team"), boss]
    keyring = ring(*states)
    assert keyring.find(bearer("pm-intern"), None, CHAT).granted_by is keyring.keys["team"]
    revoked = KeyState("boss", boss.grant, None, 0.0, boss.digests, revoked_at=now())
    keyring.take_over({each.name: each for each in [*states[:2], revoked]})
    for secret in ("pm-boss", "pm-team", "pm-intern"):
        assert refused(keyring, bearer(secret)) == (401, "invalid_api_key")


def test_a_revoked_last_key_opens_nothing() -> None:
    keyring = ring(KeyState("only", Grant(), None, 0.0, {digest("pm-s"): None}, revoked_at=1.0))
    assert refused(keyring, {}) == (401, "missing_api_key")


def test_an_expired_key_or_secret_is_401_from_that_second_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("gateway.access.keyring.now", lambda: clock[0])
    boss = state("boss", "pm-boss", role="manager", expires_at=200)
    rotated = KeyState(
        "team", Grant(), "boss", 0.0, {digest("pm-old"): 150.0, digest("pm-new"): None}
    )
    keyring = ring(boss, rotated)
    for at, works in ((149.9, {"pm-old", "pm-new"}), (150.0, {"pm-new"}), (200.0, set[str]())):
        clock[0] = at
        for secret in ("pm-old", "pm-new"):
            if secret in works:
                assert keyring.find(bearer(secret), None, CHAT).name == "team"
            else:
                assert refused(keyring, bearer(secret)) == (401, "expired_api_key")


def test_what_holds_until_keys_change_is_what_is_found_and_nothing_that_ends() -> None:
    ends = KeyState("ends", Grant(), None, 0.0, {digest("pm-old"): 4e10, digest("pm-new"): None})
    keyring = ring(state("team", "pm-team"), ends, state("short", "pm-short", expires_at=4e10))

    def steady(secret: str) -> str | None:
        key = keyring.steady(bearer(secret), None, CHAT)
        return None if key is None else key.name

    secrets = ("pm-team", "pm-new", "pm-old", "pm-short", "pm-nobody")
    assert list(map(steady, secrets)) == ["team", "ends", None, None, None]
    assert keyring.steady(bearer("pm-team"), None, CHAT) is keyring.keys["team"]
    before = keyring.generation
    keyring.take_over({})
    assert keyring.generation is not before
    assert ring().steady({}, "127.0.0.1", CHAT) is LOCAL


def test_a_key_is_never_more_than_what_granted_it() -> None:
    boss = Key("boss", Grant(role="manager", experts=("small*",), routes=("/v1/*",)))
    child = Key("child", Grant(role="admin", experts=("*-x", "large")), boss)
    assert (child.role, child.admin, child.manages) == ("manager", False, True)
    asked = [name for name in ("small-x", "small-y", "large", "big-x") if child.may_ask(name)]
    assert asked == ["small-x"]
    assert child.may_visit(CHAT)
    assert not child.may_visit("/admin/keys")


def test_a_path_outside_its_routes_is_403() -> None:
    keyring = ring(state("embedder", routes=["/v1/embeddings", "/v1/models*"]))
    assert keyring.find(bearer("pm-s"), None, "/v1/models/x").name == "embedder"
    for path in (CHAT, "/v1/embeddings/", "/V1/embeddings"):
        assert refused(keyring, bearer("pm-s"), path) == (403, "route_forbidden")


@pytest.mark.parametrize(
    ("setting", "outcome"), [("closed", (503, "ledger_unavailable")), ("open", UNVERIFIED)]
)
def test_while_the_ledger_is_away_known_keys_go_on(setting: Any, outcome: Any) -> None:
    keyring = ring(state("team"), when_ledger_is_down=setting)
    keyring.ledger_down = True
    assert keyring.find(bearer("pm-s"), None, CHAT).name == "team"
    if setting == "closed":
        assert refused(keyring, bearer("pm-other")) == outcome
    else:
        assert keyring.find(bearer("pm-other"), None, CHAT) is outcome
        assert not UNVERIFIED.manages
    assert refused(keyring, bearer("not-one-of-ours")) == (401, "invalid_api_key")


@pytest.mark.anyio
async def test_an_outage_is_noticed_and_its_end_too(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    book = KeyBook(engine)
    secret = Minter(book, Keyring()).create(None, "team", Grant()).secret
    keyring = Keyring()
    watch = KeyWatch(book, keyring)
    watch.read()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE key RENAME TO away"))
    await watch.refresh()
    assert keyring.ledger_down
    assert keyring.find(bearer(secret), None, CHAT).name == "team"
    assert refused(keyring, bearer("pm-other")) == (503, "ledger_unavailable")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO key"))
    await watch.refresh()
    assert refused(keyring, bearer("pm-other")) == (401, "invalid_api_key")
    engine.dispose()


def test_a_key_in_another_project_counts_against_that_of_its_givers() -> None:
    keyring = Keyring([KeySettings(name="root", key="root-key-1", role="admin", project="lenders")])
    made = {
        name: KeyState(name, Grant(project=project), by, 0.0, {name: None}, revoked_at=gone)
        for name, project, by, gone in (
            ("near", "lenders", "root", None),
            ("far", "borrowers", "near", None),
            ("gone", "borrowers", "far", 1.0),
            ("alone", "borrowers", None, None),
        )
    }
    keyring.take_over(made)
    assert sorted(keyring.under("root")) == ["far", "gone", "near"]
    assert sorted(keyring.outside("lenders")) == ["far", "gone"]
    assert keyring.outside("borrowers") == []


@pytest.mark.parametrize("later", [False, True], ids=["made", "changed"])
def test_rights_of_a_newer_gateway_close_their_key_here_and_no_other(
    tmp_path: Path, later: bool
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    book = KeyBook(engine)
    minter = Minter(book, Keyring())
    other, strange = (minter.create(None, name, Grant()).secret for name in ("other", "strange"))
    if later:
        minter.change(None, "strange", Grant(role="caller"))
    statement = 'UPDATE key SET "grant" = \'{"colour": "red"}\' WHERE name = \'strange\''
    with engine.begin() as connection:
        connection.execute(text(f"{statement} AND ordinal = {int(later)}"))
    keyring = Keyring()
    KeyWatch(book, keyring).read()
    assert keyring.find(bearer(other), None, CHAT).name == "other"
    assert refused(keyring, bearer(strange)) == (401, "invalid_api_key")
    with pytest.raises(ApiError) as raised:
        minter.create(None, "strange", Grant())
    assert raised.value.status == 409
    engine.dispose()
