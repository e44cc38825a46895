"""What a configuration can be told to be wrong with before anything starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec

from experts.weights.packaged import PACKAGED
from gateway.access.matchless import matchless
from gateway.access.sharing import check_sharing
from gateway.engines.specs import command_of, engine_entries
from gateway.errors import ConfigError
from gateway.ledger.database import parse_database_url
from gateway.pool.pool import prices_of
from gateway.routing.router_store import RouterStore
from gateway.server.listeners import check_exposure, check_tls
from gateway.settings.base import secret
from gateway.settings.cards import CalledSettings
from gateway.settings.experts import UrlExpert
from gateway.settings.faults import Fault, Place
from gateway.settings.load import Configuration
from gateway.settings.local import PackagedExpert, VllmExpert
from gateway.settings.root import Settings
from routers.base import FittedPolicy
from routers.errors import RoutingError
from routers.router import Router

Problem = tuple[Place, str]


def find_faults(configuration: Configuration) -> list[Fault]:
    """Why a gateway could not start with it: secrets, packages, ledger, certificate, exposure."""
    document, settings = configuration.document, configuration.settings
    problems = [
        *_packages(settings),
        *_residents(settings),
        *_ledger(settings),
        *_server(settings),
    ]
    found = (document.fault(*problem) for problem in problems)
    return sorted({*configuration.unset(), *found})


def find_warnings(configuration: Configuration) -> list[Fault]:
    """What would work, but maybe not as it was meant."""
    settings = configuration.settings
    problems = (*_prices(settings), *_scopes(settings), *_waits(settings))
    found = (configuration.document.fault(*problem) for problem in problems)
    return sorted({*configuration.warnings, *found})


def find_router_faults(settings: Settings) -> list[str]:
    """Promoted routers that can't be loaded; a gateway would start and say so in its health."""
    store = RouterStore(settings.data_dir / "routers")
    faults = []
    for name in store.names():
        try:
            promotion = store.promoted(name)
            if promotion is not None:
                router = store.load(name, promotion.version)
                faults += _unfitted(settings, router)
        except (RoutingError, ConfigError, OSError, ValueError, KeyError) as error:
            faults.append(f"router {name!r}: {error}")
    return faults


def _unfitted(settings: Settings, router: Router) -> list[str]:
    policies = settings.routing.policies.items()
    fitted = [name for name, each in policies if isinstance(each.policy(), FittedPolicy)]
    if router.rehearsal is not None or not fitted:
        return []
    names = ", ".join(fitted)
    return [
        f"router {router.name!r} was trained before rehearsals were kept, so nothing can fit the "
        f"policies {names} to it; train again"
    ]


def _packages(settings: Settings) -> Iterator[Problem]:
    for index, entry in enumerate(settings.experts):
        if isinstance(entry, VllmExpert) and not entry.base_url:
            program = command_of(entry)[0]
            if shutil.which(program) is None:
                yield (
                    ("experts", index),
                    f"there is no program {program!r}: name vLLM's `venv`",
                )
        if not isinstance(entry, PackagedExpert):
            continue
        model = PACKAGED.get(entry.package)
        if model is None:
            known = ", ".join(sorted(PACKAGED))
            yield ("experts", index, "package"), f"no such package; there are {known}"
        elif find_spec(model.package) is None:
            yield ("experts", index, "package"), f"is not installed: {model.install}"


def _residents(settings: Settings) -> Iterator[Problem]:
    ours = {entry.id for entry in engine_entries(settings)}
    for name in settings.residency.experts:
        if name not in ours:
            problem = f"{name} runs on no engine that we start, so it can't sleep and wake"
            yield ("residency", "experts", name), problem


def _ledger(settings: Settings) -> Iterator[Problem]:
    try:
        url = secret(settings.ledger.url)
    except ConfigError:
        return
    try:
        parse_database_url(url)
    except ConfigError as error:
        yield ("ledger", "url"), str(error).removeprefix("ledger.url ")


def _server(settings: Settings) -> Iterator[Problem]:
    try:
        check_tls(settings.server)
    except ConfigError as error:
        yield ("server", "tls_cert"), str(error).removeprefix("server.tls_cert: ")
    try:
        check_exposure(settings)
    except ConfigError as error:
        yield ("server", "host"), str(error)
    try:
        check_sharing(settings)
    except ConfigError as error:
        yield ("server", "workers"), str(error)


def _scopes(settings: Settings) -> Iterator[Problem]:
    for index, key in enumerate(settings.keys):
        for found in matchless(key, settings):
            yield ("keys", index, found.field, found.place), found.what


def _waits(settings: Settings) -> Iterator[Problem]:
    total_s = settings.limits.total_s
    for index, entry in enumerate(settings.experts):
        own = entry.limits.model_dump() if isinstance(entry, CalledSettings) else {}
        for name, seconds in own.items():
            if seconds is not None and seconds > total_s:
                what = f"has no effect beyond `limits.total_s`, the deadline of all ({total_s:g})"
                yield ("experts", index, "limits", name), what


def _prices(settings: Settings) -> Iterator[Problem]:
    at = datetime.now(UTC)
    for index, entry in enumerate(settings.experts):
        if not isinstance(entry, CalledSettings) or prices_of(entry, at) is not None:
            continue
        if entry.catalogue is not None:
            problem = "the catalogue has no prices of it: its cost will be booked as unknown"
            yield ("experts", index, "catalogue"), problem
        elif isinstance(entry, UrlExpert):
            yield ("experts", index), "no prices: what it costs will be booked as unknown"
