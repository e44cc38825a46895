"""Text of strangers stays text: in queries, templates, figures, file names and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply
from gateway.ledger import staged, tables
from gateway.responses.tables import kept_response
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]
ROOT = Path(__file__).parents[3]
SOURCES = [
    path
    for package in ("gateway", "experts", "routers", "eval")
    for path in sorted((ROOT / package).rglob("*.py"))
]
OPERATOR = {"name": "root", "key": "root-key-1", "role": "admin"}
AS_ROOT = {"authorization": "Bearer root-key-1"}
QUERIES = (
    "' OR '1'='1",
    "x'; DROP TABLE request; --",
    '"; DELETE FROM decision; --',
    "1) UNION SELECT secret FROM key --",
    "%27%20OR%201=1--",
    "\\'; VACUUM; --",
    "x' AND (SELECT load_extension('x')) --",
)
TEMPLATES = (
    "{{7*7}}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${7*7}",
    "{0.__class__.__init__.__globals__}",
    "%(key)s",
    "<%= 7*7 %>",
    "{config.keys}",
)


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Served:
    return serve({"a": remote("a", provider.url, Prices(1, 1))}, keys=[OPERATOR])


@pytest.mark.parametrize("hostile", QUERIES)
def test_a_query_is_never_made_of_what_came_in(served: Served, hostile: str) -> None:
    client = served.client
    body = {
        "model": "a",
        "messages": [{"role": "user", "content": hostile}],
        "pointsman": {"tags": {hostile: hostile}, "session": hostile},
    }
    asked = client.post("/v1/chat/completions", json=body, headers=AS_ROOT)
    assert asked.status_code == 200
    name = asked.headers["x-pointsman-decision-id"]
    outcome = {"score": 1, "source": hostile, "objective": hostile, "comment": hostile}
    good = client.post("/v1/feedback", json={"decision_id": name, **outcome}, headers=AS_ROOT)
    assert good.status_code == 200
    for method, path, sent in (
        ("GET", "/v1/decisions/" + hostile, None),
        ("GET", "/v1/responses/" + hostile, None),
        ("GET", "/v1/models/" + hostile, None),
        ("POST", "/v1/feedback", {"decision_id": hostile, "score": 1}),
        ("POST", "/v1/responses", {"model": "a", "input": "x", "previous_response_id": hostile}),
        ("POST", "/admin/keys", {"name": hostile}),
        ("POST", "/admin/keys", {"name": "k", "project": hostile, "experts": [hostile]}),
        ("POST", f"/admin/keys/{hostile}/revoke", None),
        ("POST", "/v1/chat/completions", {**body, "model": hostile}),
    ):
        answer = client.request(method, path, json=sent, headers=AS_ROOT)
        assert 400 <= answer.status_code < 500, (path, answer.text)
    for key in (hostile, f"Bearer {hostile}"):
        refused = client.get("/v1/models", headers={"authorization": key, "x-api-key": hostile})
        assert refused.status_code == 401
    record = client.get(f"/v1/decisions/{name}", headers=AS_ROOT).json()
    assert record["request"]["prompt"] == record["request"]["session"] == hostile
    assert record["outcomes"][0]["comment"] == hostile
    verdict = served.verified()
    assert verdict.faults == ()
    assert verdict.rows["request"] == 1


def test_the_only_queries_made_of_text_are_made_of_our_own_names() -> None:
    marked = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if re.search(r"noqa:.*\bS608\b", path.read_text())
    ]
    queries = ("bulk.py", "inserts.py")
    assert marked == [f"gateway/ledger/{name}" for name in queries]
    for name in (*staged._ALIKE, *staged._OPENED, *staged._CLOSED):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    for table in (*tables.metadata.sorted_tables, kept_response):
        for name in (table.name, *(column.name for column in table.columns)):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


@pytest.mark.parametrize("hostile", TEMPLATES)
def test_no_template_is_made_of_what_came_in(
    served: Served, provider: FakeProvider, hostile: str
) -> None:
    provider.otherwise = Reply(hostile)
    body = {"model": "a", "messages": [{"role": "user", "content": hostile}], "user": hostile}
    answer = served.client.post("/v1/chat/completions", json=body, headers=AS_ROOT)
    assert provider.bodies[-1]["messages"][0]["content"] == hostile
    assert provider.bodies[-1]["user"] == hostile
    assert answer.json()["choices"][0]["message"]["content"] == hostile
    unknown = served.client.post(
        "/v1/chat/completions", json={**body, "model": hostile}, headers=AS_ROOT
    )
    assert repr(hostile) in unknown.json()["error"]["message"]
    served.verified()
    page = served.client.get("/", headers=AS_ROOT).text
    assert "49" not in re.findall(r'<td class="prompt">([^<]*)', page)


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield from names
            yield getattr(node, "module", None) or ""


def test_code_that_could_run_what_it_is_given_is_where_it_is_known_to_be() -> None:
    risky = re.compile(
        r"(subprocess|pickle|marshal|shelve|dill|cloudpickle|joblib|pty)(\..*)?"
        r"|eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+)|.*\.from_string"
        r"|(jinja2\.)?Template|yaml\.(load|unsafe_load|full_load)|torch\.load|np\.load|import_module"
    )
    found = {
        (str(path.relative_to(ROOT)), call)
        for path in SOURCES
        for call in calls(path)
        if risky.fullmatch(call)
    }
    assert found == {
        # Local engines, as the configuration names them, without a shell; no request reaches it.
        ("experts/engines/process.py", "subprocess"),
        ("experts/engines/process.py", "subprocess.Popen"),
        ("experts/engines/group_child.py", "subprocess"),
        ("experts/engines/group_child.py", "subprocess.Popen"),
        # Our own command, with the configuration that serves; no request reaches it.
        ("gateway/retrain/beside.py", "subprocess"),
        ("gateway/retrain/beside.py", "subprocess.Popen"),
        # Where code is run to be graded, if that is on: apart, and with no rights.
        ("eval/graders/sandbox.py", "subprocess"),
        ("eval/graders/sandbox.py", "subprocess.Popen"),
        ("eval/graders/isolated.py", "exec"),
        ("eval/graders/isolated.py", "compile"),
        # Names of our own modules, never a client's.
        ("gateway/cli/main.py", "import_module"),
        # Names of libraries, written in our own code.
        ("experts/http/connecting.py", "import_module"),
        ("routers/rounds/extra.py", "import_module"),
        # To a syntax tree and no further: whether an answer is code at all.
        ("routers/deferral/facts.py", "compile"),
    }


def test_names_and_words_of_strangers_make_no_figures(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    evil = 'a"} 1\nevil_total{x="'
    keys = [OPERATOR, {"name": evil, "key": "team-key-1"}]
    served = serve({"a": remote("a", provider.url)}, keys=keys, telemetry={"key_labels": True})
    headers = {"authorization": "Bearer team-key-1"}
    for model in ("a", evil, "auto:" + evil, "router:" + evil):
        body = {"model": model, "messages": [{"role": "user", "content": evil}]}
        wishes: dict[str, Any] = {"pointsman": {"tags": {evil: evil}}}
        served.client.post("/v1/chat/completions", json={**body, **wishes}, headers=headers)
        served.client.post(f"/v1/{evil!r}", json=body, headers=headers)
    shown = served.client.get("/metrics", headers=AS_ROOT).text
    families = list(text_string_to_metric_families(shown))
    assert all(family.name.startswith(("pointsman_", "process_", "python_")) for family in families)
    labelled = {
        value
        for family in families
        for sample in family.samples
        for value in sample.labels.values()
        if "evil" in value
    }
    # Only the name that the operator gave, and as one value.
    assert labelled == {evil}
