"""Local engines for the experts that need one: started, measured, priced, handed to workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from experts.engines.base import EngineSpec
from experts.engines.keeper import Listener
from experts.engines.llama import LlamaSpec
from experts.engines.nvml import check_devices
from experts.engines.states import ENDED, EngineState
from experts.engines.supervisor import Supervisor
from experts.errors import EngineMoveError, EngineStartError, ExpertConfigError
from experts.pricing import Rates, load_rates, measure_rates, save_rates
from gateway.engines.specs import adapters_of, engine_entries, spec_of
from gateway.errors import ConfigError
from gateway.residency.desk import Desk, desk_for
from gateway.residency.first import awake_first, start_together, steward_of
from gateway.settings.devices import placed_on
from gateway.settings.load import read_configuration
from gateway.settings.local import VllmExpert
from gateway.settings.root import Settings


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """Where an expert of a local engine is asked.

    Attributes:
        base_url: Where its engine listens.
        rates: How fast a packaged model was measured to be; None for others.
        api_key: What the engine wants to be told.
        engine: The expert that owns the engine; "" for itself.
    """

    base_url: str
    rates: Rates | None = None
    api_key: str | None = field(default=None, repr=False)
    engine: str = ""


Endpoints = Mapping[str, EngineEndpoint]


class RunningEngines(NamedTuple):
    """What processes that call engines of ours have to know.

    Attributes:
        endpoints: Where each expert on one is asked.
        desk: The socket where to hear who is awake, and to have more come; "" if nobody looks after
            them.
    """

    endpoints: Endpoints = MappingProxyType({})
    desk: str = ""


NO_ENGINES = RunningEngines()


@contextmanager
def local_engines(settings: Settings, listener: Listener | None = None) -> Iterator[RunningEngines]:
    """Run an engine for every local expert of `settings` while the context is open.

    Those that take turns in memory start if they fit, the most asked first. Where there is none, a
    reload can have some come.

    Raises:
        ExpertConfigError: A package is not installed; the message has the command that does. Or a
            declared device is not there.
        EngineStartError: An engine did not come up; the message has the end of its log.
    """
    check_devices([one.device() for one in settings.devices])
    specs = [spec_of(entry, settings) for entry in engine_entries(settings)]
    first = awake_first(settings)
    with ExitStack() as stack:
        desk = stack.enter_context(desk_for(steward_of(settings)))

        def told(state: EngineState) -> None:
            desk.told(state)
            if listener is not None:
                listener(state)

        logs = settings.data_dir / "logs"
        supervisor = stack.enter_context(Supervisor(specs, logs, on_change=told, drain=desk.drain))
        fleet = EngineFleet(supervisor, desk, settings)
        running = RunningEngines(fleet.endpoints(), str(desk.path))
        start_together(supervisor, first)
        stack.enter_context(desk.looking_after(supervisor, fleet))
        yield running


class EngineFleet:
    """The engines of one gateway, which come and go with its configuration.

    One thread at a time may change them.

    Args:
        supervisor: Runs them.
        desk: Looks after them.
        settings: What they were started for.
    """

    def __init__(self, supervisor: Supervisor, desk: Desk, settings: Settings) -> None:
        self._supervisor = supervisor
        self._desk = desk
        self._data_dir = settings.data_dir
        self._entries = {entry.id: entry for entry in engine_entries(settings)}
        self._placed = placed_on(settings.devices, settings.experts, settings.residency)

    def endpoints(self) -> dict[str, EngineEndpoint]:
        """Where each expert is asked; packaged models that were never measured are."""
        return {
            name: EngineEndpoint(
                self._supervisor.base_url(name),
                rates,
                api_key,
                spec.expert_id,
            )
            for spec in self._supervisor.specs()
            for rates in [_rates(spec, self._supervisor, self._data_dir)]
            for api_key in [self._supervisor.api_key(spec.expert_id)]
            for name in spec.serves
        }

    def gain(self, text: str) -> dict[str, Any]:
        """Run what a configuration names beside what runs; expert to its endpoint, as plain data.

        Raises:
            EngineStartError, EngineMoveError: Something finds no room, did not come up or could
                not be loaded; nothing has changed then.
        """
        settings = _read(text)
        new = [entry for entry in engine_entries(settings) if entry.id not in self._entries]
        before = self._adapters()
        try:
            entries = {**self._entries, **{entry.id: entry for entry in new}}
            placed = placed_on(settings.devices, entries.values(), settings.residency, self._placed)
            specs = [spec_of(entry, settings, placed.seats) for entry in new]
            for name, adapters in _adapters_in(settings).items():
                if name in before:
                    self._supervisor.serve(name, {**adapters, **before[name]})
            self._supervisor.add(specs)
        except (ConfigError, ExpertConfigError, EngineStartError, EngineMoveError) as error:
            for entry in new:
                self._desk.gone(entry.id)
            self._keep(before)
            if isinstance(error, ConfigError | ExpertConfigError):
                raise EngineMoveError(str(error)) from error
            raise
        self._entries, self._placed = entries, placed
        return plain_endpoints(self.endpoints())

    def lose(self, text: str) -> None:
        """End what a configuration does not name, when its calls are done.

        Raises:
            EngineMoveError: The configuration's engines can't be told.
        """
        self._keep(_adapters_in(_read(text)))

    def _adapters(self) -> dict[str, Mapping[str, str]]:
        """Engine to the adapters that it is to have, of all that run."""
        return {spec.expert_id: spec.adapters for spec in self._supervisor.specs()}

    def _keep(self, wanted: Mapping[str, Mapping[str, str]]) -> None:
        """End and unload what is not wanted: engine to its adapters."""
        for name, adapters in self._adapters().items():
            if name in wanted:
                kept = {one: path for one, path in adapters.items() if one in wanted[name]}
                self._supervisor.serve(name, kept)
            else:
                self._supervisor.remove(name)
                self._desk.gone(name)
                self._entries = {k: v for k, v in self._entries.items() if k != name}
                seats = {k: v for k, v in self._placed.seats.items() if k != name}
                self._placed = replace(self._placed, seats=seats)


def _read(text: str) -> Settings:
    try:
        return read_configuration(text, "reloaded").settings
    except ConfigError as error:
        raise EngineMoveError(str(error)) from error


def _adapters_in(settings: Settings) -> dict[str, Mapping[str, str]]:
    return {
        entry.id: adapters_of(entry, settings) if isinstance(entry, VllmExpert) else {}
        for entry in engine_entries(settings)
    }


def plain_endpoints(endpoints: Endpoints) -> dict[str, dict[str, Any]]:
    """Endpoints as JSON has them, for worker processes."""
    return {
        name: {**asdict(one), "rates": _plain_rates(one.rates)} for name, one in endpoints.items()
    }


def read_endpoints(plain: Mapping[str, Mapping[str, Any]]) -> Endpoints:
    """The inverse of `plain_endpoints`."""
    return {
        name: EngineEndpoint(**{**one, "rates": _read_rates(one["rates"])})
        for name, one in plain.items()
    }


def _plain_rates(rates: Rates | None) -> dict[str, Any] | None:
    if rates is None:
        return None
    return {**asdict(rates), "measured_on": rates.measured_on.isoformat()}


def _read_rates(plain: Mapping[str, Any] | None) -> Rates | None:
    if plain is None:
        return None
    return Rates(**{**plain, "measured_on": date.fromisoformat(plain["measured_on"])})


def _rates(spec: EngineSpec, supervisor: Supervisor, data_dir: Path) -> Rates | None:
    """Measured once per model file and number of threads, then remembered."""
    if not isinstance(spec, LlamaSpec):
        return None
    cache = data_dir / "rates.json"
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
