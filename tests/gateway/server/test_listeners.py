from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.fakes.scripted import ScriptedExpert, says
from gateway.app import create_app
from gateway.engines.local import NO_ENGINES
from gateway.errors import ConfigError
from gateway.running import serve_forever
from gateway.server.listeners import Listeners, check_exposure, check_tls, listen, listening
from gateway.settings.document import Document
from gateway.settings.load import Configuration
from gateway.settings.root import Settings
from gateway.settings.server import ServerSettings
from tests.conftest import Serve

OPERATORS = ("/", "/admin/routers", "/metrics", "/docs", "/openapi.json")
KEY = {"name": "a", "key": "long-enough"}
POOL = {"a": ScriptedExpert(ExpertCard("a"), says("Hello"))}


def server(**fields: Any) -> ServerSettings:
    return ServerSettings.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({}, None),
        ({"host": "::1"}, None),
        ({"host": "127.0.0.9"}, None),
        ({"host": "localhost"}, None),
        ({"host": "0.0.0.0"}, ("127.0.0.1", 8090)),
        ({"host": "10.0.0.5", "admin_host": "10.0.0.6"}, ("10.0.0.6", 8090)),
        ({"host": "10.0.0.5", "admin_port": 9000}, ("127.0.0.1", 9000)),
        ({"admin_port": 9000}, ("127.0.0.1", 9000)),
        ({"host": "0.0.0.0", "admin_port": 8000}, None),
        ({"host": "0.0.0.0", "port": 0, "admin_port": 0}, ("127.0.0.1", 0)),
    ],
)
def test_beyond_this_machine_operators_get_a_listener_of_their_own(
    fields: dict[str, Any], address: tuple[str, int] | None
) -> None:
    assert server(**fields).admin_address == address


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "0.0.0.0", "admin_host": "127.0.0.1", "admin_port": 8000},
        {"host": "0.0.0.0", "port": 8090, "admin_host": "127.0.0.1"},
        {"tls_cert": "a.pem"},
        {"tls_key": "a.pem"},
        {"workers": 0},
    ],
)
def test_listeners_that_do_not_fit_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"own|together|greater"):
        server(**fields)


def test_serving_strangers_needs_keys_or_a_word() -> None:
    strangers = {"host": "0.0.0.0"}
    with pytest.raises(ConfigError, match=r"refusing to serve 0\.0\.0\.0 without keys"):
        check_exposure(Settings.model_validate({"server": strangers}))
    check_exposure(Settings())
    check_exposure(Settings.model_validate({"server": strangers, "keys": [KEY]}))
    check_exposure(Settings.model_validate({"server": {**strangers, "allow_anonymous": True}}))


def test_an_address_that_is_taken_is_named() -> None:
    with listen(("127.0.0.1", 0), "server.port") as first:
        first.listen()
        host, port = first.getsockname()
        with pytest.raises(ConfigError) as caught:
            listen((host, port), "server.admin_port")
    assert str(caught.value) == (
        f"server.admin_port: can't listen on {host}:{port}: Address already in use; "
        "stop what listens there, or set another server.admin_port"
    )


@pytest.mark.parametrize("setting", ["server.port", "server.admin_port"])
def test_of_two_that_bound_an_address_the_second_to_listen_is_told(setting: str) -> None:
    local = ("127.0.0.1", 0)
    with listen(local, setting) as first, listen(local, setting) as free:
        host, port = first.getsockname()
        with listen((host, port), setting) as second:
            first.listen()
            public, admin = (second, free) if setting == "server.port" else (free, second)
            ports = {"port": public.getsockname()[1], "admin_port": admin.getsockname()[1]}
            with pytest.raises(ConfigError, match=f":{port}: .*set another {setting}"):
                Listeners(public, admin).listen(server(**ports))


@pytest.mark.parametrize("workers", [1, 2])
def test_it_is_told_before_anybody_is_served(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_RUN", "")
    monkeypatch.setattr("gateway.running.serving_app", lambda *_: None)
    monkeypatch.setattr("gateway.running.settled", lambda app: app)
    with listen(("127.0.0.1", 0), "server.port") as first:
        host, port = first.getsockname()
        settings = Settings.model_validate(
            {
                "experts": [{"id": "a", "base_url": "http://127.0.0.1:9/v1"}],
                "server": {"host": host, "port": port, "workers": workers},
                "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
                "data_dir": str(tmp_path),
            }
        )
        configuration = Configuration(settings, Document("given", "", {}, {}))
        with listening(settings) as listeners:
            first.listen()
            with pytest.raises(ConfigError, match=f":{port}: .*set another server.port"):
                serve_forever(None, configuration, NO_ENGINES, {}, listeners)


def test_a_certificate_that_can_not_be_used_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"server\.tls_cert: 'none\.pem' can't be used: .*No such"
    ):
        check_tls(server(tls_cert="none.pem", tls_key="none.pem"))


def test_operators_routes_do_not_exist_on_the_public_listener(serve: Serve) -> None:
    served = serve(POOL, admin_port=1)
    for path in OPERATORS:
        assert served.client.get(path).status_code == 404, path
    assert served.client.post("/admin/routers/default/rollback").status_code == 404
    assert served.client.get("/health/ready").json() == {"status": "ready"}
    assert served.ask().status_code == 200


def test_what_is_not_served_is_named_with_what_is(serve: Serve) -> None:
    here, public = serve(POOL).client, serve(POOL, admin_port=1).client
    answer = here.post("/v1/chat/completion", json={})
    assert answer.status_code == 404
    said = answer.json()["error"]
    assert (said["code"], said["type"]) == ("no_such_route", "invalid_request_error")
    assert "POST /v1/chat/completion (was /v1/chat/completions meant?)" in said["message"]
    assert "/v1/embeddings" in said["message"]
    answer = here.put("/v1/responses/x", headers={"anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
    assert answer.json()["type"] == "error"
    assert "takes DELETE, GET" in answer.json()["error"]["message"]
    # What is hidden has no methods and is not proposed either.
    answers = [public.put("/admin/keys"), public.get("/admin/key")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert not any("meant" in answer.text or "allow" in answer.headers for answer in answers)


def test_on_a_loopback_address_operators_find_everything_on_the_one_listener(serve: Serve) -> None:
    served = serve(POOL)
    for path in OPERATORS:
        assert served.client.get(path).status_code == 200, path


def test_a_new_route_is_on_the_public_listener_only_if_its_path_says_so(serve: Serve) -> None:
    served = serve(POOL, admin_port=1)
    routes = [
        (method, path)
        for path, methods in create_app(served.gateway).openapi()["paths"].items()
        for method in methods
    ]
    assert len(routes) > 10
    for method, path in routes:
        answer = served.client.request(method, path.replace("{", "").replace("}", ""))
        hidden = answer.status_code == 404 and answer.json()["error"]["code"] == "no_such_route"
        assert hidden != path.startswith(("/v1/", "/health/")), path


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("10.1.2.3", 200),
        ("gateway.internal:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.nip.io", 403),
        ("127.0.0.1@evil.example", 400),
        ("evil.example/127.0.0.1", 400),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_a_page_that_was_made_to_resolve_to_us_gets_nothing(
    serve: Serve, host: str, status: int
) -> None:
    served = serve(POOL, server={"trusted_hosts": ["Gateway.internal"]})
    answer = served.client.get("/admin/routers", headers={"host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "untrusted_host"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 404),
        ("http://localhost", 404),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_another_sites_page_can_not_make_a_browser_act_as_operator(
    serve: Serve, origin: str, status: int
) -> None:
    served = serve(POOL)
    answer = served.client.post("/admin/routers/none/rollback", headers={"origin": origin})
    assert answer.status_code == status


def test_a_forwarded_address_makes_nobody_a_local(serve: Serve) -> None:
    served = serve(POOL, keys=[{**KEY, "admin": True}])
    for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
        answer = served.client.get("/admin/routers", headers={name: "127.0.0.1"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "rebound.example"}, 403),
        ({"x-forwarded-for": "127.0.0.1"}, 401),
        ({"forwarded": "for=127.0.0.1"}, 401),
        ({"via": "1.1 proxy"}, 401),
    ],
)
def test_without_keys_only_this_machine_spends_and_no_page_or_proxy_for_it(
    serve: Serve, headers: dict[str, str], status: int
) -> None:
    served = serve(POOL)
    body = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}
    plain = {"content-type": "text/plain", **headers}
    answer = served.client.post("/v1/chat/completions", content=json.dumps(body), headers=plain)
    assert answer.status_code == status, answer.text


def test_strangers_that_are_let_in_are_nobodys_admin(serve: Serve) -> None:
    served = serve(POOL, server={"allow_anonymous": True})
    through_a_proxy = {"x-forwarded-for": "127.0.0.1"}
    assert served.client.get("/v1/models", headers=through_a_proxy).status_code == 200
    assert served.client.get("/admin/routers", headers=through_a_proxy).status_code == 403
    assert served.client.get("/admin/routers").status_code == 200
