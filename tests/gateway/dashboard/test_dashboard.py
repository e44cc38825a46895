from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider
from gateway.dashboard.chart import HEIGHT, WIDTH, frontier_chart
from gateway.dashboard.money import dollars
from gateway.dashboard.pages import ago
from gateway.ids import now


def comparison(*costs: float) -> dict[str, Any]:
    points = [{"cost_usd": cost, "quality": 0.5 + i / 10} for i, cost in enumerate(costs)]
    singles = {f"e{i}": point for i, point in enumerate(points)}
    unknown = {"cost_usd": None, "quality": 0.3}
    return {
        "routers": {"knn": {"points": [*points, unknown]}},
        "singles": {**singles, "dark": unknown},
        "baselines": {"oracle": {"cost_usd": costs[0], "quality": 0.95}, "cheapest": points[0]},
    }


@pytest.mark.parametrize("costs", [(0.0, 1e-6, 2e-6), (1e-6, 1e-3), (0.0,)])
def test_everything_known_stands_inside_the_picture(costs: tuple[float, ...]) -> None:
    chart = frontier_chart(comparison(*costs))
    assert chart is not None
    marks = [*chart.marks, *(mark for line in chart.lines for mark in line.marks)]
    assert all(0 <= mark.x <= WIDTH and 0 <= mark.y <= HEIGHT for mark in marks)
    assert {mark.name for mark in chart.marks} == {f"e{i}" for i in range(len(costs))} | {"oracle"}


def test_dearer_is_further_right_and_better_is_higher() -> None:
    chart = frontier_chart(comparison(1e-6, 1e-5, 1e-3))
    assert chart is not None
    (line,) = chart.lines
    xs, ys = [mark.x for mark in line.marks], [mark.y for mark in line.marks]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)


def test_without_a_comparison_or_costs_there_is_no_chart() -> None:
    assert frontier_chart(None) is None
    nothing: dict[str, Any] = {"routers": {}, "singles": {}, "baselines": {}}
    assert frontier_chart(nothing) is None


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "unknown"),
        (0.0, "$0"),
        (1234.5, "$1,234.50"),
        (0.0012, "$0.001200"),
        (2e-9, "$0.000000002"),
    ],
)
def test_dollars_show_what_matters(usd: float | None, shown: str) -> None:
    assert dollars(usd) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5, "5 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (2e5, "2 d ago")]
)
def test_times_are_in_their_largest_unit(seconds: float, shown: str) -> None:
    assert ago(now() - seconds) == shown


def test_the_page_says_how_it_comes_by_a_comparison_and_shows_it(
    serve: Callable[..., Any], remote: Callable[..., Expert], provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)})
    path = served.gateway.settings.data_dir / "comparison.json"
    assert f"<code>{path}</code>" in served.client.get("/").text
    written = orjson.dumps(comparison(1e-6, 1e-3))
    path.write_bytes(written)
    assert "<polyline" in served.client.get("/").text
    path.write_bytes(written[:40])
    page = served.client.get("/")
    assert (page.status_code, "No comparison yet" in page.text) == (200, True)
