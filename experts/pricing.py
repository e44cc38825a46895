"""What a call costs: local models by measured speed and cost per hour, others by catalogue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx2

from experts.cards import Prices
from experts.errors import ExpertConfigError
from experts.whole_files import whole_file

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

_RUNS = 3
_OUTPUT_TOKENS = 24
_SECONDS_PER_HOUR = 3600
_PER_MILLION = 1e6
_WORDS = [
    "river",
    "stone",
    "apple",
    "cloud",
    "seven",
    "green",
    "house",
    "paper",
    "light",
    "winter",
    "table",
    "garden",
]


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast an engine is, one request at a time.

    Attributes:
        prompt_tokens_per_s: Prompt tokens read afresh per second, > 0.
        output_tokens_per_s: Tokens written per second, > 0.
        measured_on: The day of the measurement.
    """

    prompt_tokens_per_s: float
    output_tokens_per_s: float
    measured_on: date

    def __post_init__(self) -> None:
        for name in ("prompt_tokens_per_s", "output_tokens_per_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"rate {name!r} must be a finite number > 0")


def measure_rates(base_url: str, today: date) -> Rates:
    """Time a running llama.cpp server on prompts that it has not cached; some seconds of work.

    Args:
        base_url: As an engine gives it, ending in `/v1`.
        today: The day to note in the result.

    Returns:
        The median of a few runs, from the server's own timings.

    Raises:
        ExpertConfigError: The server can't be reached or does not report timings.
    """
    with httpx2.Client(timeout=120.0, trust_env=False) as client:
        runs = [_timings(client, base_url, run) for run in range(_RUNS)]
    return Rates(
        prompt_tokens_per_s=median(float(run["prompt_per_second"]) for run in runs),
        output_tokens_per_s=median(float(run["predicted_per_second"]) for run in runs),
        measured_on=today,
    )


def prices_from_rates(rates: Rates, usd_per_hour: float) -> Prices:
    """Price tokens by the machine time they take.

    Dollars per million tokens = usd_per_hour / 3600 / tokens per second · 10⁶. A cached prompt
    token takes no machine time and costs nothing. That is the price on a machine that serves one
    request at a time and is never idle: it is higher on an idle machine, and lower on one that
    answers several requests at once.

    Args:
        rates: As `measure_rates` gives them.
        usd_per_hour: What the machine costs, in dollars per hour, >= 0.
    """
    usd_per_s = usd_per_hour / _SECONDS_PER_HOUR
    return Prices(
        input=usd_per_s / rates.prompt_tokens_per_s * _PER_MILLION,
        output=usd_per_s / rates.output_tokens_per_s * _PER_MILLION,
        cache_read=0.0,
        source=(
            f"measured on {rates.measured_on.isoformat()}: {rates.prompt_tokens_per_s:.0f} prompt "
            f"and {rates.output_tokens_per_s:.0f} output tokens/s at ${usd_per_hour:g} per hour"
        ),
    )


def load_rates(path: Path, model_path: Path, threads: int) -> Rates | None:
    """Read the rates noted for this model file and number of threads; None if there are none."""
    noted = _read_cache(path).get(_cache_key(model_path, threads))
    if noted is None:
        return None
    try:
        return Rates(
            prompt_tokens_per_s=noted["prompt_tokens_per_s"],
            output_tokens_per_s=noted["output_tokens_per_s"],
            measured_on=date.fromisoformat(noted["measured_on"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def save_rates(path: Path, model_path: Path, threads: int, rates: Rates) -> None:
    """Note the rates of this model file and number of threads beside those noted before."""
    cache = _read_cache(path)
    cache[_cache_key(model_path, threads)] = {
        "prompt_tokens_per_s": rates.prompt_tokens_per_s,
        "output_tokens_per_s": rates.output_tokens_per_s,
        "measured_on": rates.measured_on.isoformat(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as written:
        written.write_text(json.dumps(cache, indent=2), encoding="utf-8")


def catalogue_prices(provider_model: str, at: datetime) -> Prices | None:
    """Look a remote model's prices up in the installed genai-prices package, never in the network.

    Where a provider asks more for long prompts, this is the price of short ones.

    Args:
        provider_model: `provider/model`, or `model` alone to search all providers.
        at: The time of the call, with its time zone: some prices have changed or follow the hour.

    Returns:
        None when the catalogue does not know the model, or not both token prices of it.
    """
    found = _catalogued(provider_model, at)
    if found is None:
        return None
    price = found.model_price
    per_million = _base(price.input_mtok), _base(price.output_mtok)
    if per_million[0] is None or per_million[1] is None:
        return None
    return Prices(
        input=per_million[0],
        output=per_million[1],
        cache_read=_base(price.cache_read_mtok),
        cache_write=_base(price.cache_write_mtok),
        request=(_base(price.requests_kcount) or 0.0) / 1000,
        source=(
            f"genai-prices {version('genai-prices')} as of {at.date().isoformat()}: "
            f"{found.provider.id}/{found.model.id}"
        ),
    )


def catalogue_context(provider_model: str, at: datetime) -> int | None:
    """How many tokens the model reads and writes together by the same catalogue, if it says."""
    found = _catalogued(provider_model, at)
    return None if found is None else found.model.context_window


def _catalogued(provider_model: str, at: datetime) -> PriceCalculation | None:
    from genai_prices import Usage, calc_price

    provider, slash, model = provider_model.partition("/")
    try:
        return calc_price(
            Usage(),
            model if slash else provider_model,
            provider_id=provider if slash else None,
            genai_request_timestamp=at,
        )
    except LookupError:
        return None


def _timings(client: httpx2.Client, base_url: str, run: int) -> dict[str, Any]:
    body = {
        "prompt": _prompt(run),
        "max_tokens": _OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    try:
        answer = client.post(f"{base_url}/completions", json=body).raise_for_status().json()
    except (httpx2.HTTPError, ValueError) as error:
        raise ExpertConfigError(f"can't measure the speed of {base_url}: {error}") from error
    timings = answer.get("timings")
    if not timings:
        raise ExpertConfigError(f"{base_url} reports no timings: give its prices in the config")
    return dict(timings)


def _prompt(run: int) -> str:
    return " ".join(_rotated(_WORDS, run) * 8)


def _rotated(words: Sequence[str], by: int) -> list[str]:
    return [*words[by:], *words[:by]]


def _base(price: Any) -> float | None:
    # A tiered price has a base; a plain one is a Decimal.
    value = getattr(price, "base", price)
    return float(value) if isinstance(value, Decimal) else None


def _cache_key(model_path: Path, threads: int) -> str:
    stat = model_path.stat()
    return f"{model_path.name}|{stat.st_size}|{stat.st_mtime_ns}|{threads} threads"


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        cache = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}
