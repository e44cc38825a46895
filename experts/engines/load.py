"""How busy an engine is, read from the figures that it publishes for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """An engine's figures at one moment, summed over its parts.

    Attributes:
        running: Requests that it computes.
        waiting: Requests that it has accepted and not begun.
        kv_used: Share of its KV cache in use, in [0, 1]; None if it does not say.
        prefix_hits: Prompt tokens that its prefix cache spared it since it started.
        prefix_queries: Prompt tokens that were looked up there.
        tokens: Prompt and output tokens that it has worked through.
    """

    running: int
    waiting: int
    kv_used: float | None = None
    prefix_hits: int = 0
    prefix_queries: int = 0
    tokens: int = 0

    @property
    def under_way(self) -> int:
        """Requests that would be lost if it ended now."""
        return self.running + self.waiting


_RUNNING = ("vllm:num_requests_running", "llamacpp:requests_processing")
_WAITING = ("vllm:num_requests_waiting", "llamacpp:requests_deferred")
# Names changed between versions; an engine has the new one, the old one or, for a while, both.
_KV_USED = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_HITS = ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
_QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
_PROMPT = ("vllm:prompt_tokens_total", "llamacpp:prompt_tokens_total")
_OUTPUT = ("vllm:generation_tokens_total", "llamacpp:tokens_predicted_total")


_OURS = (*_RUNNING, *_WAITING, *_KV_USED, *_HITS, *_QUERIES, *_PROMPT, *_OUTPUT)


def read_load(text: str) -> EngineLoad | None:
    """The figures in a page of metrics; None if it has no number of running requests."""
    try:
        return _load_of(_figures(text))
    except (ValueError, OverflowError):
        # No page of metrics, or one that counts NaN.
        return None


def _load_of(figures: Mapping[str, list[float]]) -> EngineLoad | None:
    running = _first(figures, _RUNNING)
    if running is None:
        return None
    kv_used = _first(figures, _KV_USED)
    return EngineLoad(
        running=int(sum(running)),
        waiting=_total(figures, _WAITING),
        # Each part has a cache of its own, and the fullest one holds requests up.
        kv_used=max(kv_used) if kv_used else None,
        prefix_hits=_total(figures, _HITS),
        prefix_queries=_total(figures, _QUERIES),
        tokens=_total(figures, _PROMPT) + _total(figures, _OUTPUT),
    )


def _figures(text: str) -> Mapping[str, list[float]]:
    figures: dict[str, list[float]] = defaultdict(list)
    # Most of a page is histograms, which take a hundred times as long to read.
    page = "\n".join(line for line in text.splitlines() if line.startswith(_OURS))
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            figures[sample.name].append(sample.value)
    return figures


def _first(figures: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float] | None:
    return next((figures[name] for name in names if name in figures), None)


def _total(figures: Mapping[str, list[float]], names: tuple[str, ...]) -> int:
    return int(sum(_first(figures, names) or ()))
