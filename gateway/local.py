"""Local engines for the experts that need one: started, measured, priced, handed to workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Any

from experts.engines.base import EngineSpec
from experts.engines.keeper import Listener
from experts.engines.llama import LlamaSpec
from experts.engines.states import ENDED, EngineState
from experts.engines.supervisor import Supervisor
from experts.nvml import check_devices
from experts.pricing import Rates, load_rates, measure_rates, save_rates
from gateway.local_specs import engine_entries, spec_of
from gateway.residency.desk import desk_for
from gateway.residency.first import awake_first, start_together, steward_of
from gateway.settings.root import Settings


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an expert of a local engine is asked.

    Attributes:
        base_url: Where its engine listens.
        rates: How fast a packaged model was measured to be; None for others.
        api_key: What the engine wants to be told.
        engine: The expert that owns the engine; "" for itself.
        desk: The socket where to hear whether it is awake; "" if nobody looks after it.
    """

    base_url: str
    rates: Rates | None = None
    api_key: str | None = field(default=None, repr=False)
    engine: str = ""
    desk: str = ""


Endpoints = Mapping[str, Endpoint]
NO_ENGINES: Endpoints = MappingProxyType({})


@contextmanager
def local_engines(settings: Settings, listener: Listener | None = None) -> Iterator[Endpoints]:
    """Run an engine for every local expert of `settings` while the context is open.

    Those that take turns in memory start if they fit, the most asked first.

    Raises:
        ExpertConfigError: A package is not installed; the message has the command that does. Or a
            declared device is not there.
        EngineStartError: An engine did not come up; the message has the end of its log.
    """
    check_devices([one.device() for one in settings.devices])
    specs = [spec_of(entry, settings) for entry in engine_entries(settings)]
    if not specs:
        yield {}
        return
    first = awake_first(settings)
    with ExitStack() as stack:
        desk = stack.enter_context(desk_for(steward_of(settings.residency)))

        def told(state: EngineState) -> None:
            desk.told(state)
            if listener is not None:
                listener(state)

        logs = settings.data_dir / "logs"
        supervisor = stack.enter_context(Supervisor(specs, logs, on_change=told, drain=desk.drain))
        rates = {spec.expert_id: _rates(spec, supervisor, settings) for spec in specs}
        start_together(supervisor, first)
        stack.enter_context(desk.looking_after(supervisor))
        yield {
            name: Endpoint(
                supervisor.base_url(name),
                rates[spec.expert_id],
                supervisor.api_key(name),
                spec.expert_id,
                str(desk.path),
            )
            for spec in specs
            for name in spec.serves
        }


def dump_endpoints(endpoints: Endpoints) -> str:
    """Endpoints as text, for worker processes."""
    return json.dumps({name: asdict(e) for name, e in endpoints.items()}, default=str)


def parse_endpoints(text: str) -> Endpoints:
    """The inverse of `dump_endpoints`."""
    data: dict[str, dict[str, Any]] = json.loads(text)
    return {
        name: Endpoint(
            e["base_url"], _parse_rates(e["rates"]), e["api_key"], e["engine"], e["desk"]
        )
        for name, e in data.items()
    }


def _parse_rates(data: Mapping[str, Any] | None) -> Rates | None:
    if data is None:
        return None
    measured_on = date.fromisoformat(data["measured_on"])
    return Rates(data["prompt_tokens_per_s"], data["output_tokens_per_s"], measured_on)


def _rates(spec: EngineSpec, supervisor: Supervisor, settings: Settings) -> Rates | None:
    """Measured once per model file and number of threads, then remembered."""
    if not isinstance(spec, LlamaSpec):
        return None
    cache = settings.data_dir / "rates.json"
    known = load_rates(cache, spec.model_path, spec.threads)
    if known is not None:
        return known
    supervisor.start(spec.expert_id)
    rates = measure_rates(supervisor.base_url(spec.expert_id), date.today())  # noqa: DTZ011
    if spec.lazy:
        # The next one may need its memory.
        supervisor.sleep(spec.expert_id, ENDED)
    save_rates(cache, spec.model_path, spec.threads, rates)
    return rates
