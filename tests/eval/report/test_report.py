from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.compare import compare
from eval.comparison import Comparison, MeasuredPoint
from eval.report.frontier import draw_frontier, frontier_svg
from eval.report.labels import Label, place_labels, shortened
from eval.report.pictures import MUTED, color_of, prominent
from eval.report.report import render_report, write_report

MakeWorld = Callable[..., Any]
HOSTILE = ("<script>alert(1)</script>", "_a$x^{$ & \"b'", "日本 {{ 7*7 }} -->")
VOID = {"meta", "link", "br", "img", "hr", "input", "use", "path", "rect", "circle", "line"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def found(make_world: MakeWorld) -> Comparison:
    world = make_world(200)
    return compare(world.train, world.test, ["category", "ridge"], replicates=100)


@pytest.fixture(scope="module")
def hostile(make_world: MakeWorld) -> Comparison:
    world = make_world(120)
    names = {"experts": tuple(sorted(HOSTILE))}
    tasks = tuple(f"<b>{task}</b>" for task in world.test.tasks)
    train = replace(world.train, **names, tasks=tuple(f"<b>{t}</b>" for t in world.train.tasks))
    test = replace(world.test, **names, tasks=tasks)
    data = {"train": "<i>a.csv", "test": "<i>a.csv", "split": "<u>"}
    return compare(
        train, test, ["category"], replicates=50, data=data, notes=["<img src=x onerror=y>"]
    ).with_measured(MeasuredPoint("<svg onload=z>", 0.9, 1e-4, {"<a href='q'>": 1.0}))


def test_the_report_is_one_page_that_needs_nothing_else(found: Comparison) -> None:
    html = render_report(found, title="A title")
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert {"link", "iframe", "object", "img"} & set(page.tags) == set()
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href", "action"):
            assert value.startswith("#"), (name, value)
    assert not re.search(r"url\((?!#|&quot;#)", html)
    assert not re.search(r"@import|https?://(?!www\.w3\.org/)", html)


def test_only_the_script_of_the_page_may_run(found: Comparison) -> None:
    html = render_report(found, title="A title")
    assert Page(html).tags.count("script") == 1
    script = html[html.index("<script>") + 8 : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in html
    assert f"script-src 'sha256-{digest}'\"" in html
    curves = re.findall(r'data-curve="([^"]+)"', html)
    assert len(curves) == len(found.routers)
    assert all(f'id="{curve}"' in html for curve in curves)


def test_the_report_says_what_a_newcomer_needs(found: Comparison) -> None:
    text = Page(render_report(found, title="A title", notes=["Mind this."])).text
    assert found.headline in text
    for words in (
        "A title", "Mind this.", "The frontier", "Who gets the traffic", "where it loses",
        "Do the predictions come true?", "Every expert alone", "What was measured, and how",
        "AIQ is the average quality that a curve buys", "95% interval", "Best single expert",
        "Do two routers really differ?", "Arena score", "ParetoDist", "Gain@B", "Cost of a pass",
        "Within tasks", "Experts that are right", "behind a gadget", "How long it took",
        "Oracle", "Task label", "Prompt length", "Random expert", "calc", "large", "middle",
    ):  # fmt: skip
        assert words in text, words
    assert "nan" not in text.lower().split()
    assert "None" not in text


def test_hostile_names_are_shown_as_text(hostile: Comparison) -> None:
    html = render_report(hostile, title="<script>x</script>", notes=["<b>note</b>"])
    page = Page(html)
    assert page.tags.count("script") == 1
    assert not {"b onload", "img", "a", "u"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text
    assert "<b>note</b>" in page.text
    assert "<svg onload=z>" in page.text
    assert "49" not in re.findall(r"日本 (\S+)", page.text)


def test_three_files_are_written_whole(hostile: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    paths = write_report(hostile, folder, title="T")
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "frontier.png", "report.html",
    }  # fmt: skip
    assert paths.frontier.read_bytes().startswith(b"\x89PNG")
    metrics = json.loads(paths.metrics.read_text())
    assert set(metrics["singles"]) == set(HOSTILE)
    assert "</html>" in paths.report.read_text()


def test_a_failure_leaves_the_old_files(
    found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_report(found, tmp_path, title="Old")
    old = paths.frontier.read_bytes()

    def fail(comparison: Comparison, path: Path) -> None:
        path.write_bytes(b"half a pic")
        raise OSError("disk full")

    monkeypatch.setattr("eval.report.report.frontier_png", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(found, tmp_path, title="New")
    assert paths.frontier.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 3


def test_a_report_without_costs_shows_qualities_alone(make_world: MakeWorld) -> None:
    world = make_world(120, costs=False, tasks=False)
    found = compare(world.train, world.test, ["ridge"], replicates=50)
    page = Page(render_report(found, title="T"))
    assert "Costs are unknown" in page.text
    assert "Cost saved" not in page.text
    assert "no task labels" in page.text
    assert "$" not in page.text


def test_colours_of_the_picture_follow_the_page(found: Comparison) -> None:
    svg = frontier_svg(found)
    assert svg.startswith("<svg")
    assert 'role="img"' in svg
    assert "var(--ink)" in svg
    assert "var(--router-0)" in svg
    assert "#1c2024" not in svg
    assert "<metadata" not in svg
    assert svg == frontier_svg(found)


@pytest.mark.parametrize(("dearest", "scale"), [(20.0, "linear"), (50.0, "log")])
def test_the_cost_axis_is_logarithmic_for_wide_ranges(
    dearest: float, scale: str, found: Comparison
) -> None:
    costs = {"calc": 1.0, "large": dearest, "middle": 2.0}
    singles = {
        name: replace(each, points=(replace(each.point, cost_usd=costs[name]),))
        for name, each in found.singles.items()
    }
    routers = tuple(
        replace(each, points=tuple(replace(p, cost_usd=1.5) for p in each.points))
        for each in found.routers
    )
    baselines = {
        name: replace(each, points=tuple(replace(p, cost_usd=1.5) for p in each.points))
        for name, each in found.baselines.items()
    }
    drawn = draw_frontier(replace(found, singles=singles, routers=routers, baselines=baselines))
    assert drawn.axes[0].get_xscale() == scale


def test_labels_cover_neither_each_other_nor_points() -> None:
    figure = Figure(figsize=(8, 5))
    ax = figure.add_subplot()
    ax.set_xlim(1, 100)
    ax.set_xscale("log")
    rng = np.random.default_rng(0)
    xs, ys = np.exp(rng.uniform(0, np.log(100), 40)), rng.uniform(0, 1, 40)
    labels = [
        Label(x, y, f"expert {i}", "#000000") for i, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    written = place_labels(ax, labels, points, most=40)
    assert 10 < written < 40
    assert len(ax.texts) == written
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    for at, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:at])
        for x, y in ax.transData.transform(points):
            assert not box.contains(x, y)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("two\nlines\x00", "two lines"),
        ("x" * 60, "x" * 21 + "…" + "x" * 12),
    ],
)
def test_long_names_are_shortened_in_the_middle(text: str, shown: str) -> None:
    assert shortened(text) == shown


def test_of_many_routers_seven_stand_out_in_colours_of_their_own(found: Comparison) -> None:
    ridge, category = found.router("ridge"), found.router("category")
    many = [replace(ridge, name=f"ridge{i}") for i in range(8)]
    crowd = replace(found, routers=(*many, category), recommended="category")
    names = prominent(crowd)
    assert len(names) == 7
    assert names[0] == "category"
    colors = [color_of(crowd, name) for name in names]
    assert len(set(colors)) == 7
    left_out = [router.name for router in crowd.routers if router.name not in names]
    assert {color_of(crowd, name) for name in left_out} == {MUTED}
    page = Page(render_report(crowd, title="T"))
    drawn = [name for name, _ in page.attributes if name == "checked"]
    assert len(drawn) == 7
    assert "2 other routers" in {text.get_text() for text in draw_frontier(crowd).legends[0].texts}
