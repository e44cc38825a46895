"""The dashboard and the alerts we ship ask for what is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from experts.base import Expert
from experts.fakes.provider import FakeProvider

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "config/grafana/pointsman.json"
ALERTS = ROOT / "config/prometheus/alerts.yaml"
NAME = re.compile(r"\b(?:pointsman|process)_\w+")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


def panels() -> Iterator[dict[str, Any]]:
    yield from orjson.loads(DASHBOARD.read_bytes())["panels"]


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


def queries() -> list[str]:
    targets = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [*targets, *(rule["expr"] for rule in rules())]


@pytest.fixture
def text(serve: Serve, remote: Remote, provider: FakeProvider) -> str:
    served = serve({"small": remote("small", provider.url)})
    served.ask("small", stream=True)
    return str(served.client.get("/metrics").text)


def test_every_metric_that_is_asked_for_is_there(text: str) -> None:
    families = list(text_string_to_metric_families(text))
    exported = {f.name + end for f in families for end in SUFFIXES[f.type]}
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert asked - exported == set()
    assert len(asked) > 30


def test_every_label_that_is_asked_for_is_there(text: str) -> None:
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    given = {"job", "instance"}
    for query in queries():
        for name, wanted in re.findall(r"(pointsman_\w+)\{([^}]*)\}", query):
            # A metric of which nothing has been counted yet shows no labels.
            if labels.get(name):
                asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", wanted))
                assert asked - labels[name] - given == set(), query


def test_every_metric_is_shown_somewhere_or_documented(text: str) -> None:
    said = " ".join(queries()) + (ROOT / "docs/observability.md").read_text()
    families = {f.name for f in text_string_to_metric_families(text)}
    ours = {name for name in families if name.startswith("pointsman_")}
    assert {name for name in ours if name not in said} == set()


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    found = list(panels())
    dashboard = orjson.loads(DASHBOARD.read_bytes())
    assert {"uid", "title", "schemaVersion", "templating", "time", "panels"} <= set(dashboard)
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        assert panel["type"] in ("row", "timeseries", "stat")
        assert panel["type"] == "row" or panel["targets"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("query", queries())
def test_brackets_close(query: str) -> None:
    for opened, closed in ("()", "{}", "[]"):
        assert query.count(opened) == query.count(closed)


@pytest.mark.parametrize("rule", [*rules()], ids=lambda rule: rule["alert"])
def test_alerts_say_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "warn")
    assert set(rule["annotations"]) == {"summary", "description"}
