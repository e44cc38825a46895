"""Prices follow from measured speed or from the catalogue; what is unknown stays unknown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.engines.llama import LlamaEngine, LlamaSpec
from experts.errors import ExpertConfigError
from experts.messages import Usage
from experts.pricing import (
    Rates,
    catalogue_context,
    catalogue_prices,
    load_rates,
    measure_rates,
    prices_from_rates,
    save_rates,
)

TODAY = date(2026, 3, 5)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
RATES = Rates(prompt_tokens_per_s=160.0, output_tokens_per_s=80.0, measured_on=TODAY)
positive = st.floats(1e-3, 1e6)


@contextmanager
def server(answers: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that gives these answers in turn, and keeps what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            body = json.dumps(answers[len(asked) - 1]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}/v1", asked
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def timed(prompt_per_s: float, output_per_s: float) -> dict[str, Any]:
    return {"timings": {"prompt_per_second": prompt_per_s, "predicted_per_second": output_per_s}}


def test_the_median_of_several_uncached_runs_counts() -> None:
    answers = [timed(1.0, 900.0), timed(150.0, 70.0), timed(160.0, 60.0)]
    with server(answers) as (base_url, asked):
        assert measure_rates(base_url, TODAY) == Rates(150.0, 70.0, TODAY)
    assert len({body["prompt"] for body in asked}) == 3
    assert not any(body["cache_prompt"] for body in asked)


def test_a_server_without_timings_is_no_source_of_prices() -> None:
    with (
        server([{"choices": []}]) as (base_url, _),
        pytest.raises(ExpertConfigError, match="reports no timings: give its prices"),
    ):
        measure_rates(base_url, TODAY)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ExpertConfigError, match=r"the speed of http://127\.0\.0\.1:9/v1"):
        measure_rates("http://127.0.0.1:9/v1", TODAY)


def test_a_real_engine_is_measured(smollm2: LlamaSpec, tmp_path: Path) -> None:
    engine = LlamaEngine(smollm2, tmp_path)
    try:
        engine.start()
        engine.wait_ready(60)
        rates = measure_rates(engine.base_url, TODAY)
    finally:
        engine.close()
    assert 1 < rates.output_tokens_per_s < 100_000
    assert 1 < rates.prompt_tokens_per_s < 1_000_000


def test_tokens_cost_the_time_they_take() -> None:
    prices = prices_from_rates(RATES, usd_per_hour=0.36)
    assert prices.input == pytest.approx(0.36 / 3600 / 160 * 1e6)
    assert prices.output == pytest.approx(0.36 / 3600 / 80 * 1e6)
    assert prices.source == (
        "measured on 2026-03-05: 160 prompt and 80 output tokens/s at $0.36 per hour"
    )


def test_cached_prompt_tokens_cost_nothing() -> None:
    prices = prices_from_rates(RATES, usd_per_hour=1.0)
    assert prices.cost_nanousd(Usage(cache_read=1000)) == 0
    assert prices.cost_nanousd(Usage(input=1000)) > 0


@given(positive, positive, st.floats(0, 100), st.integers(1, 10**6))
def test_a_machine_that_is_busy_for_an_hour_earns_its_hour(
    prompt_per_s: float, output_per_s: float, usd_per_hour: float, share: int
) -> None:
    prices = prices_from_rates(Rates(prompt_per_s, output_per_s, TODAY), usd_per_hour)
    reading_s = 3600 * share / 10**6
    spent = prices.expected_usd(prompt_per_s * reading_s, output_per_s * (3600 - reading_s))
    assert spent == pytest.approx(usd_per_hour)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="output_tokens_per_s"):
        Rates(1.0, rate, TODAY)


def model(folder: Path, content: bytes = b"weights") -> Path:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return path


def test_noted_rates_are_found_again(tmp_path: Path) -> None:
    cache, path = tmp_path / "new" / "rates.json", model(tmp_path)
    save_rates(cache, path, 1, RATES)
    other = Rates(10.0, 20.0, TODAY)
    save_rates(cache, path, 2, other)
    assert load_rates(cache, path, 1) == RATES
    assert load_rates(cache, path, 2) == other


def test_rates_of_another_file_or_number_of_threads_are_not_used(tmp_path: Path) -> None:
    cache, path = tmp_path / "rates.json", model(tmp_path)
    assert load_rates(cache, path, 1) is None
    save_rates(cache, path, 1, RATES)
    assert load_rates(cache, path, 2) is None
    assert load_rates(cache, model(tmp_path, b"other weights"), 1) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}'])
def test_a_broken_cache_is_measured_anew(tmp_path: Path, content: str) -> None:
    cache, path = tmp_path / "rates.json", model(tmp_path)
    cache.write_text(content)
    assert load_rates(cache, path, 1) is None
    save_rates(cache, path, 1, RATES)
    assert load_rates(cache, path, 1) == RATES


def test_a_damaged_entry_is_measured_anew(tmp_path: Path) -> None:
    cache, path = tmp_path / "rates.json", model(tmp_path)
    save_rates(cache, path, 1, RATES)
    cache.write_text(cache.read_text().replace("80.0", "-80.0"))
    assert load_rates(cache, path, 1) is None


@pytest.mark.parametrize("name", ["openai/gpt-4o", "gpt-4o"])
def test_the_catalogue_knows_well_known_models(name: str) -> None:
    prices = catalogue_prices(name, NOW)
    assert prices is not None
    assert prices.cache_read is not None
    assert 0 < prices.cache_read < prices.input < prices.output
    catalogue = f"genai-prices {version('genai-prices')}"
    assert prices.source == f"{catalogue} as of {NOW.date()}: openai/gpt-4o"


def test_the_catalogue_knows_how_much_a_model_can_read() -> None:
    assert catalogue_context("openai/gpt-4o", NOW) == 128_000
    assert catalogue_context("openai/my-own-model", NOW) is None


def test_a_price_per_request_is_taken_over() -> None:
    prices = catalogue_prices("perplexity/sonar", NOW)
    assert prices is not None
    assert 0.001 < prices.request < 0.1


def test_a_price_with_tiers_is_that_of_short_prompts() -> None:
    prices = catalogue_prices("anthropic/claude-sonnet-4-5", NOW)
    assert prices is not None
    assert prices.input == 3.0


@pytest.mark.parametrize(
    "name",
    ["openai/my-own-model", "nobody/gpt-4o", "no-such-model-at-all", "openai/whisper-1", "", "/"],
)
def test_an_unknown_price_is_none(name: str) -> None:
    assert catalogue_prices(name, NOW) is None
