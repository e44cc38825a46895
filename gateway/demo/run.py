"""The main job end to end: ask, log, learn, compare, with real models on this machine."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from eval.compare import compare
from eval.comparison import Comparison, MeasuredPoint
from eval.crew import LocalCrew
from eval.metrics.intervals import ClusterBootstrap, percentile_interval
from eval.report.report import Paths, Step, write_report
from eval.tables.sources import write_outcomes
from eval.tables.splits import TrainTest, read_train_test
from experts.cards import Prices
from gateway.cli.console import say
from gateway.cli.endpoint import running_gateway
from gateway.cli.evaluate import learned_routers
from gateway.cli.gather import expert_ids, gather
from gateway.cli.progress import stages
from gateway.collection.collecting import Collected, Collecting, Prompt, read_prompts
from gateway.demo.loop import DemoQuestion, read_questions, run_loop
from gateway.demo.recalled import newest_collection, recall
from gateway.errors import GatewayError
from gateway.ids import new_id
from gateway.ledger.database import opened
from gateway.ledger.export import booked_answers, export_outcomes
from gateway.ledger.history import latest_prices
from gateway.ledger.rows import digest
from gateway.ledger.verify import LedgerFindings, verify_ledger
from gateway.routing.router_store import RouterStore
from gateway.settings.experts import ExpertSettings, local_pool
from gateway.settings.root import Settings
from routers.fitting.fit import fit_router

MAX_TOKENS = 16
LOOP_ESTIMATOR = "ridge"
"""What learns in the loop: fitted in a moment."""
_CONCURRENCY = 2
_SWAP_S = 30.0
_SEED = 0


class DemoError(GatewayError):
    """The demo can't go on; the message says what it found."""


def run_demo(
    out: Path, *, fresh: bool = False, pool: Sequence[ExpertSettings] = ()
) -> tuple[Comparison, Paths]:
    """Run the main job and write its report into `out`.

    The experts are those of `pool`, or else the local ones. Answers that an earlier run collected
    from the same experts stand in the ledger under the same collection and are not asked for
    again, unless `fresh`; so a run that was cut off goes on.

    Raises:
        DemoError: An expert gave no answers, or the ledger does not hold afterwards.
    """
    settings = demo_settings(out, pool)
    prompts = read_prompts(_prompts_file())
    say(f"[bold]1/6[/] starting local experts; their logs are in {settings.data_dir / 'logs'}")
    with running_gateway(settings, seed=_SEED) as url:
        experts = expert_ids(url, None)
        say(f"[bold]2/6[/] asking {', '.join(experts)} {len(prompts)} prompts through {url}/v1")
        collection = {"collection": _collection(url, prompts, fresh)}
        kept = _complete(_ask(url, prompts, experts, collection, settings)).kept
        if kept:
            say(f"  {kept} answers were in the ledger from an earlier run; --fresh asks again")
        say("[bold]3/6[/] learning from the ledger and comparing on held-out prompts")
        tables = _tables(settings, collection, out / "outcomes.parquet")
        prices = _prices(url)
        comparison = _compare(tables, prices)
        version = _promote(settings, comparison, tables)
        _await_version(url, version)
        held_out = [prompt for prompt in prompts if prompt.split == "test"]
        say(f"[bold]4/6[/] router {version[:12]} serves; sending it {len(held_out)} prompts")
        live = _ask(url, held_out, ["auto"], {"live": new_id("run")}, settings)
        comparison = comparison.with_measured(_measured(_complete(live)))
    say("[bold]5/6[/] the learning loop, over the answers that were given")
    steps = _looped(settings, collection, read_questions(_prompts_file()), prices, tables)
    say("[bold]6/6[/] proving the ledger and writing the report")
    verdict = _verified(settings)
    notes = _notes(verdict, prompts)
    paths = write_report(comparison, out, title="Pointsman demo", notes=notes, steps=steps)
    shutil.copyfile(paths.metrics, settings.data_dir / "comparison.json")
    return comparison, paths


def rerun_loop(out: Path) -> list[Step]:
    """Go through the learning loop once more, over the answers of an earlier run in `out`.

    Raises:
        DemoError: There was none.
    """
    settings, table = demo_settings(out), out / "outcomes.parquet"
    if not table.is_file():
        raise DemoError(f"'{out}' holds no answers yet: run the demo without --loop first")
    with opened(settings.ledger_url) as engine:
        prices = latest_prices(engine)
        collection = {"collection": newest_collection(engine)}
    tables = read_train_test(table, table, seed=_SEED)
    return _looped(settings, collection, read_questions(_prompts_file()), prices, tables)


def _prompts_file() -> Path:
    return Path(str(files("gateway.demo").joinpath("prompts.jsonl")))


def _looped(
    settings: Settings,
    collection: Mapping[str, str],
    questions: Sequence[DemoQuestion],
    prices: Mapping[str, Prices | None],
    tables: TrainTest,
) -> list[Step]:
    """Requests, outcomes, gate, trial, promotion: told as they come."""
    with opened(settings.ledger_url) as engine:
        answers = recall(engine, collection)
    steps = []
    folder = settings.data_dir / "loop"
    for step in run_loop(folder, questions, answers, prices, tables.train, LOOP_ESTIMATOR):
        version = f"{step.version[:12]} " if step.version else ""
        say(f"  {step.what.replace('_', ' ')}: {version}{step.reason}")
        steps.append(step)
    return steps


def demo_settings(out: Path, pool: Sequence[ExpertSettings] = ()) -> Settings:
    """The pool with everything it writes under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    ledger = {"url": f"sqlite:///{out}/ledger.db"}
    experts = tuple(pool) or local_pool()
    return Settings.model_validate({"data_dir": out / "data", "ledger": ledger, "experts": experts})


def _collection(url: str, prompts: Sequence[Prompt], fresh: bool) -> str:
    """A name for these prompts asked of these experts: the same again is the same collection."""
    if fresh:
        return new_id("col")
    listed = httpx2.get(f"{url}/v1/models", trust_env=False).json()["data"]
    experts = [model["pointsman"] for model in listed if model["pointsman"]["kind"] == "expert"]
    asked = [[prompt.query_id, prompt.text, repr(prompt.check)] for prompt in prompts]
    return f"col-{digest([asked, experts, MAX_TOKENS])[:32]}"


def _ask(
    url: str,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    tags: Mapping[str, str],
    settings: Settings,
) -> Collected:
    with opened(settings.ledger_url) as engine:
        found = booked_answers(engine, tags)
    return gather(
        Collecting(url, max_tokens=MAX_TOKENS, concurrency=_CONCURRENCY, tags=tags),
        prompts,
        models,
        known=frozenset(pair for pair, answer in found.items() if answer.scored),
    )


def _complete(collected: Collected) -> Collected:
    if collected.failures:
        count, first = len(collected.failures), collected.failures[0]
        raise DemoError(f"{count} calls gave no answer; the first: {first}")
    return collected


def _tables(settings: Settings, collection: Mapping[str, str], path: Path) -> TrainTest:
    """The graded answers of this collection, read back from the ledger."""
    with opened(settings.ledger_url) as engine:
        exported = export_outcomes(engine, tags=collection)
    write_outcomes(exported.rows, path)
    return read_train_test(path, path, seed=_SEED)


def _prices(url: str) -> dict[str, Prices | None]:
    listed = httpx2.get(f"{url}/v1/models", trust_env=False).json()["data"]
    cards = (model["pointsman"] for model in listed if model["pointsman"]["kind"] == "expert")
    return {card["expert"]: _price(card) for card in cards}


def _price(card: Mapping[str, Any]) -> Prices | None:
    if card["usd_per_mtok_input"] is None:
        return None
    return Prices(card["usd_per_mtok_input"], card["usd_per_mtok_output"])


def _compare(tables: TrainTest, prices: Mapping[str, Prices | None]) -> Comparison:
    with stages() as progress:
        return compare(
            tables.train,
            tables.test,
            learned_routers()[0],
            prices=prices,
            seed=_SEED,
            data=tables.data,
            notes=tables.notes,
            progress=progress,
            crew=LocalCrew(os.cpu_count() or 1),
        )


def _promote(settings: Settings, comparison: Comparison, tables: TrainTest) -> str:
    """Train the router that the training side recommends, and make it the one that serves."""
    name = settings.routing.router
    router = fit_router(
        name,
        comparison.recommended,
        tables.train,
        seed=_SEED,
        epsilon=settings.routing.epsilon,
    )
    store = RouterStore(settings.data_dir / "routers")
    return store.promote(name, store.publish(router)).version


def _await_version(url: str, version: str) -> None:
    """Wait until the gateway, which was never stopped, serves `version`."""
    until = time.monotonic() + _SWAP_S
    while time.monotonic() < until:
        ready = httpx2.get(f"{url}/health/ready", trust_env=False).json()
        if version in ready["routers"].values():
            return
        time.sleep(0.1)
    raise DemoError(f"the gateway did not take up router version {version} in {_SWAP_S:.0f} s")


def _measured(live: Collected) -> MeasuredPoint:
    """What the endpoint itself achieved: graded answers and booked dollars."""
    rows = live.rows
    counts = Counter(row["model"] for row in rows)
    bootstrap = ClusterBootstrap([row["query_id"] for row in rows], seed=_SEED)
    columns = [[float(row[name]) for row in rows] for name in ("score", "cost_usd")]
    values_KN = np.array(columns)
    replicates_BK = bootstrap.means(values_KN, np.ones_like(values_KN))
    intervals = (percentile_interval(replicates_B) for replicates_B in replicates_BK.T)
    named = zip(("quality", "cost_usd"), intervals, strict=True)
    return MeasuredPoint(
        "auto, live",
        float(values_KN[0].mean()),
        float(values_KN[1].mean()),
        {expert: count / len(rows) for expert, count in counts.items()},
        {name: (interval.low, interval.high) for name, interval in named if interval},
    )


def _verified(settings: Settings) -> LedgerFindings:
    with opened(settings.ledger_url) as engine:
        verdict = verify_ledger(engine)
    if verdict.faults:
        raise DemoError(f"the ledger does not hold: {verdict.faults[0]}")
    return verdict


def _notes(verdict: LedgerFindings, prompts: Sequence[Prompt]) -> list[str]:
    kinds = len({prompt.task for prompt in prompts})
    return [
        f"{len(prompts)} prompts of {kinds} kinds written for this demo; every expert answered "
        "each of them through the endpoint, at temperature 0.",
        "'auto, live' sent the held-out prompts through the running endpoint; all other rows are "
        "computed from the answers every expert gave.",
        "Prices of local experts follow from their measured speed at a configured price per hour.",
        f"The ledger was verified afterwards: {verdict.rows['attempt']} attempts, no fault.",
    ]
