"""Local engines for the experts that need one: started, measured, priced, handed to workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from experts.engines.keeper import Listener
from experts.engines.llama import LlamaSpec
from experts.engines.supervisor import Supervisor
from experts.packaged import PACKAGED, packaged_model
from experts.pricing import Rates, load_rates, measure_rates, save_rates
from gateway.settings.experts import PackagedExpert
from gateway.settings.root import Settings


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a local engine listens and how fast it was measured to be."""

    base_url: str
    rates: Rates


Endpoints = Mapping[str, Endpoint]


@contextmanager
def local_engines(settings: Settings, listener: Listener | None = None) -> Iterator[Endpoints]:
    """Run an engine for every packaged expert of `settings` while the context is open.

    Raises:
        ExpertConfigError: A package is not installed; the message has the command that does.
        EngineStartError: An engine did not come up; the message has the end of its log.
    """
    packaged = [e for e in settings.experts if isinstance(e, PackagedExpert)]
    if not packaged:
        yield {}
        return
    specs = {expert.id: _spec(expert, settings) for expert in packaged}
    logs = settings.data_dir / "logs"
    with Supervisor(tuple(specs.values()), logs, on_change=listener) as supervisor:
        yield {
            name: Endpoint(supervisor.base_url(name), _rates(spec, supervisor, settings))
            for name, spec in specs.items()
        }


def dump_endpoints(endpoints: Endpoints) -> str:
    """Endpoints as text, for worker processes."""
    return json.dumps({name: asdict(e) for name, e in endpoints.items()}, default=str)


def parse_endpoints(text: str) -> Endpoints:
    """The inverse of `dump_endpoints`."""
    data: dict[str, dict[str, Any]] = json.loads(text)
    return {name: Endpoint(e["base_url"], _parse_rates(e["rates"])) for name, e in data.items()}


def _parse_rates(data: Mapping[str, Any]) -> Rates:
    measured_on = date.fromisoformat(data["measured_on"])
    return Rates(data["prompt_tokens_per_s"], data["output_tokens_per_s"], measured_on)


def _spec(expert: PackagedExpert, settings: Settings) -> LlamaSpec:
    path = packaged_model(expert.package, settings.data_dir / "packaged")
    context = PACKAGED[expert.package].context_tokens
    return LlamaSpec(expert.id, path, expert.threads, context, expert.slots)


def _rates(spec: LlamaSpec, supervisor: Supervisor, settings: Settings) -> Rates:
    """Measured once per model file and number of threads, then remembered."""
    cache = settings.data_dir / "rates.json"
    known = load_rates(cache, spec.model_path, spec.threads)
    if known is not None:
        return known
    rates = measure_rates(supervisor.base_url(spec.expert_id), date.today())  # noqa: DTZ011
    save_rates(cache, spec.model_path, spec.threads, rates)
    return rates
