"""What becomes of measured rounds: medians, ratios, a table, the README."""

from __future__ import annotations

import pytest

from benchmarks.comparison import README, Figures, kept, results, table, with_table

VERSIONS = {"nginx": "1.2", "Pointsman": "abc", "LiteLLM": "3"}


def measured(per_s: float, p50_us: float = 100, share: float = 1.0) -> dict[str, float]:
    return {
        "answered": per_s,
        "refused": 0,
        "broken": 0,
        "cut": 0,
        "per_s": per_s,
        "cpu_us": 50,
        "tokens_per_s": 20_000 * share,
        "p50_us": p50_us,
        "p99_us": 2 * p50_us,
        "first_p50_us": p50_us,
    }


def rounds(
    many: list[float], steady: list[float], added_us: float = 0, share: float = 1.0
) -> dict[str, list[dict[str, float]]]:
    return {
        "one": [measured(10) for _ in many],
        "many": [measured(per_s) for per_s in many],
        "steady": [measured(per_s, 100 + added_us) for per_s in steady],
        "first": [measured(20, 100 + added_us) for _ in many],
        "paced": [measured(200, share=share) for _ in many],
        "process": [{"start_s": 0.5, "rss_mb": 123.4} for _ in many],
    }


@pytest.fixture
def figures() -> Figures:
    hundred = [100.0, 100, 100]
    return {
        "direct": rounds([900, 900, 900], hundred),
        "LiteLLM": rounds([4, 5, 6], [40.0, 100, 100]),
        "nginx": rounds([300, 200, 100], hundred, 200),
        "Pointsman": rounds([50, 10, 80], hundred, 700, share=0.995),
    }


def test_medians_are_taken_over_rounds(figures: Figures) -> None:
    rows = results(figures, VERSIONS, 3)["rows"]
    assert rows["nginx"]["per_s_64"] == 200
    assert rows["Pointsman"]["per_s_64"] == 50
    assert rows["Pointsman"]["times_nginx"] == 0.25
    assert rows["Pointsman"]["added_p50_ms"] == 0.7
    assert rows["Pointsman"]["added_p99_ms"] == 1.4
    assert rows["Pointsman"]["first_token_added_p50_ms"] == 0.7
    assert rows["Pointsman"]["paced_share"] == 0.995


def test_a_rate_that_was_not_kept_has_no_latency(figures: Figures) -> None:
    row = results(figures, VERSIONS, 3)["rows"]["LiteLLM"]
    assert row["added_p50_ms"] is None
    assert row["per_s_64"] == 5


def test_without_a_yardstick_there_are_no_multiples(figures: Figures) -> None:
    del figures["nginx"]
    assert results(figures, VERSIONS, 3)["rows"]["Pointsman"]["times_nginx"] is None


def test_answers_that_failed_are_counted(figures: Figures) -> None:
    figures["LiteLLM"]["many"][1] |= {"refused": 3, "cut": 2}
    assert results(figures, VERSIONS, 3)["rows"]["LiteLLM"]["failed"] == 5


def test_the_fastest_comes_first_and_direct_is_no_gateway(figures: Figures) -> None:
    lines = table(results(figures, VERSIONS, 3)).splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:5]]
    assert names == ["nginx 1.2", "**Pointsman**", "LiteLLM 3"]
    assert "| 99.5% | 123 | 0.50 |" in lines[3]
    assert "| – | – |" in lines[4]


def test_the_table_is_replaced_and_nothing_else() -> None:
    before = "# A\n\n<!-- gateways -->\nold\n<!-- /gateways -->\nrest\n"
    assert with_table(before, "new") == before.replace("old", "new")
    with pytest.raises(ValueError, match="needs"):
        with_table("# A", "new")


def test_the_readme_shows_what_was_measured_last() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, table(kept())) == text
