"""The figures of a page of metrics."""

from __future__ import annotations

import pytest

from experts.engines.load import EngineLoad, read_load

PAGE = """\
# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_running{engine="1"} 1.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0"} 30.0
vllm:prefix_cache_queries_total{engine="0"} 40.0
vllm:prompt_tokens_total{engine="0"} 7.0
vllm:generation_tokens_total{engine="1"} 5.0
vllm:e2e_request_latency_seconds_bucket{le="0.3"} not a number
"""


def test_parts_are_summed_and_the_fullest_cache_counts() -> None:
    assert read_load(PAGE) == EngineLoad(4, 2, 0.5, 30, 40, 12)


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>",
        "vllm:num_requests_running is high",
        "vllm:num_requests_running NaN",
        "vllm:num_requests_running 1\nvllm:num_requests_waiting +Inf",
    ],
)
def test_what_is_no_such_page_says_nothing(page: str) -> None:
    assert read_load(page) is None
