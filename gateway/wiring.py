"""Settings to a gateway: the one place where its parts are made and put together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experts.base import Expert
from gateway.access.admission import Admission, Counted
from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.access.shared import SharedCounters
from gateway.access.sharing import counts_alone
from gateway.access.spending import Spending
from gateway.access.watch import KeyWatch
from gateway.caching.cache import AnswerCache
from gateway.embedding.spaces import KnownSpaces, Spaces
from gateway.engines.local import NO_ENGINES, RunningEngines
from gateway.execution.traffic import Traffic
from gateway.fast.lane import Lane
from gateway.guards.chain import GuardChain
from gateway.ids import now
from gateway.ledger.opening import open_ledger
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import card_row
from gateway.ledger.store import Ledger
from gateway.outcomes.afterwards import Afterwards, Scoring
from gateway.pool.pool import Pool
from gateway.residency.line import open_line
from gateway.residency.residents import NOBODY_LIVES_HERE
from gateway.responses.store import ResponseStore
from gateway.routing.deciding import Decider
from gateway.routing.router_store import RouterStore
from gateway.routing.serving import ServingRouters
from gateway.server.bodies import Bodies
from gateway.server.shutdown import Shutdown
from gateway.service import Service
from gateway.settings.base import secret
from gateway.settings.root import Settings
from gateway.shadows.calls import ShadowCalls, ShadowWork
from gateway.state import Gateway, Lasting, Uses
from gateway.telemetry.build import build_telemetry, ledger_metrics, show_drifts
from gateway.telemetry.otlp import models_of, start_tracing
from gateway.telemetry.redaction import Redactor, secrets_of


def build_gateway(
    settings: Settings,
    experts: Mapping[str, Expert],
    *,
    seed: int | None = None,
    redactor: Redactor | None = None,
    engines: RunningEngines = NO_ENGINES,
) -> Gateway:
    """Open the ledger, load the routers, and put everything together.

    Args:
        settings: What is configured.
        experts: The pool.
        seed: Of all chance; None: another each time.
        redactor: Takes secrets out of log lines.
        engines: Those that run for experts of the pool.

    Raises:
        ConfigError, LedgerError: Something that is configured can't be used.
    """
    ledger = open_ledger(settings)
    engine = ledger.engine
    store = RouterStore(settings.data_dir / "routers")
    metrics = ledger_metrics(ledger)
    show_drifts(metrics, store)
    bodies = Bodies()
    metrics.gauge("bodies_bytes", "Memory set aside for request bodies.", lambda: bodies.held)
    line = open_line(settings, engines)
    redactor = redactor or Redactor(secrets_of(settings))
    lasting = Lasting(
        database=engine,
        ledger=ledger,
        reader=LedgerReader(engine),
        store=store,
        metrics=metrics,
        redactor=redactor,
        tracing=start_tracing(settings, redactor),
        serving=_serving(settings, store),
        cache=AnswerCache(settings.cache, metrics),
        traffic=Traffic.of(settings, seed, line.residents if line else NOBODY_LIVES_HERE),
        key_book=KeyBook(engine),
        counted=Counted(_shared(settings)),
        responses=_response_store(settings),
        bodies=bodies,
        shutdown=Shutdown(),
        scoring=Scoring.of(settings, ledger.append, metrics),
        shadows=ShadowWork.of(settings, engine),
        spaces=KnownSpaces(engine),
        adaptive={},
        rng=np.random.default_rng(seed),
        line=line,
    )
    return _assembled(settings, experts, lasting)


def rebuild_gateway(old: Gateway, settings: Settings, experts: Mapping[str, Expert]) -> Gateway:
    """A gateway with other settings on the books, counters and routers of one that runs."""
    before, lasting = old.settings, old.lasting
    lasting.redactor.learn(secrets_of(settings))
    if lasting.tracing is not None:
        lasting.tracing.learn(models_of(settings))
    lasting = lasting._replace(traffic=lasting.traffic.renewed(before, settings))
    if _how_routed(before) != _how_routed(settings):
        lasting = lasting._replace(serving=_serving(settings, lasting.store))
    if _how_answered(before) != _how_answered(settings):
        # What an expert answered says nothing of the one that now has its name, and what guards let
        # pass nothing of what they would now.
        lasting = lasting._replace(cache=AnswerCache(settings.cache, lasting.metrics))
    if lasting.counted.shared is not None:
        lasting.counted.shared.hold_at_least(_longest_s(settings))
    shadows = lasting.shadows.renewed(before, settings, lasting.database)
    return _assembled(settings, experts, lasting._replace(shadows=shadows))


def _how_routed(settings: Settings) -> tuple[str, float]:
    return settings.routing.router, settings.routing.epsilon


def _how_answered(settings: Settings) -> tuple[object, ...]:
    """All that bears on which answer a request gets, and what of it may be seen."""
    return (
        settings.cache,
        settings.experts,
        settings.aliases,
        settings.routing,
        settings.guards,
    )


def _assembled(settings: Settings, experts: Mapping[str, Expert], lasting: Lasting) -> Gateway:
    pool, ledger, traffic = Pool(dict(experts)), lasting.ledger, lasting.traffic
    telemetry = build_telemetry(settings, lasting.metrics, lasting.redactor, lasting.tracing)
    decider = Decider(
        settings,
        pool,
        lasting.serving,
        lasting.traffic,
        lasting.adaptive,
        lasting.rng,
        lasting.ledger.append,
    )
    decider.prepare()
    keyring = Keyring(settings.keys, settings.access.when_ledger_is_down, settings.server)
    watch = KeyWatch(lasting.key_book, keyring)
    watch.read()
    spending = Spending(lasting.database, keyring.under, keyring.outside)
    alone = counts_alone(settings)
    admission = Admission(settings.access, spending, ledger.flush, lasting.counted, alone=alone)
    afterwards = Afterwards(settings, ledger.append, lasting.scoring)
    service = Service(
        settings,
        pool,
        decider,
        Spaces(pool, lasting.spaces, routed=settings.routing.embeddings_router is not None),
        GuardChain(settings.guards, ledger, lasting.metrics),
        lasting.cache,
        lasting.traffic,
        ledger,
        telemetry,
        admission,
        lasting.shutdown,
        afterwards,
    )
    uses = Uses()
    afterwards.judge_through(service, decider.limits, uses)
    if settings.shadow.share:
        shadows = ShadowCalls(settings, pool, lasting, uses, afterwards.score, decider.limits)
        afterwards.shadow_through(shadows.offer)
    _record_cards(ledger, pool)
    lane = Lane(settings, pool, keyring, admission, decider, traffic, ledger, telemetry, afterwards)
    return Gateway(
        settings=settings,
        keyring=keyring,
        minter=Minter(lasting.key_book, keyring),
        key_watch=watch,
        admission=admission,
        pool=pool,
        decider=decider,
        service=service,
        telemetry=telemetry,
        lasting=lasting,
        lane=lane,
        uses=uses,
    )


def _serving(settings: Settings, store: RouterStore) -> ServingRouters:
    serving = ServingRouters(store, settings.routing.router, settings.routing.epsilon)
    serving.refresh()
    return serving


def _shared(settings: Settings) -> SharedCounters | None:
    if settings.access.shared is None:
        return None
    return SharedCounters(secret(settings.access.shared), _longest_s(settings))


def _longest_s(settings: Settings) -> float:
    """Longer than any request, the time for a settlement to be sent included."""
    return settings.limits.total_s + settings.limits.stream_more_s + 60


def _response_store(settings: Settings) -> ResponseStore | None:
    wanted = settings.responses
    if not wanted.store:
        return None
    return ResponseStore(
        settings.responses_url,
        retention_days=wanted.retention_days,
        max_rows=wanted.max_rows,
    )


def _record_cards(ledger: Ledger, pool: Pool) -> None:
    ledger.append([card_row(card, now()) for card in pool.cards])
