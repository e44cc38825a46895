"""`pointsman fleet`: which experts to host, and how to share a batch out among them."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from gateway.cli.console import out, say, show_json, show_table
from gateway.cli.options import AsJson, Config, LedgerUrl, Seed
from gateway.cli.window import Since, Until, day
from gateway.errors import ConfigError
from gateway.settings.load import load_settings

if TYPE_CHECKING:
    from eval.fleet.design import Budgets, Fleet
    from eval.fleet.front import FrontStep
    from eval.fleet.judge import Worth

commands = typer.Typer(help="Choose the experts to host.", no_args_is_help=True)

_FIRST_PORT = 8101
_MOST = 50_000


@commands.command("design")
def design_(
    train: Annotated[Path, typer.Option(help="Outcome table with tasks, to choose by.")],
    footprints: Annotated[Path, typer.Option(help="CSV by `model`: what each expert takes.")],
    test: Annotated[
        Path | None, typer.Option(help="Outcome table to judge by; default: --train, divided.")
    ] = None,
    size: Annotated[str, typer.Option(help="Column: what hosting takes.")] = "total_params_b",
    load: Annotated[str, typer.Option(help="Column: what a request takes.")] = "active_params_b",
    size_budget: Annotated[
        float | None, typer.Option(min=0, help="Most that the fleet may take together.")
    ] = None,
    load_budget: Annotated[
        float | None, typer.Option(min=0, help="Most that a request may take on average.")
    ] = None,
    load_weight: Annotated[
        float, typer.Option(min=0, help="Quality worth giving up to save one unit of load.")
    ] = 0.0,
    require: Annotated[str, typer.Option(help="A,B: experts to host in any case.")] = "",
    seed: Seed = 0,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write a configuration of the fleet.")
    ] = None,
    json: AsJson = False,
) -> None:
    """The fleet of the highest quality within the budgets, judged on held-out queries."""
    from eval.fleet.design import Budgets
    from eval.fleet.footprints import read_footprints

    budgets = Budgets(size_budget, load_budget, load_weight)
    required = [name for name in require.split(",") if name]
    sizes, loads = (read_footprints(footprints, column) for column in (size, load))
    study = _study(train, test or train, (sizes, loads), budgets, required, seed)
    if study.left_out:
        say(f"left out, since {footprints} does not list them: {', '.join(study.left_out)}")
    if out_file is not None:
        text = configuration(study.fleet, sizes, loads, (size, load))
        out_file.write_text(text, encoding="utf-8")
        say(f"configuration: {out_file}")
    if json:
        show_json(_plain(study))
    else:
        _show(study)


@dataclass(frozen=True, slots=True)
class _Study:
    """What was found: the fleet, ways of answering beside it, and the front along one budget."""

    fleet: Fleet
    ways: tuple[Worth, ...]
    steps: tuple[FrontStep, ...]
    along: str
    queries: int
    left_out: tuple[str, ...]


def _study(
    train: Path,
    test: Path,
    footprints: tuple[dict[str, float], dict[str, float]],
    budgets: Budgets,
    required: list[str],
    seed: int,
) -> _Study:
    from eval.fleet.design import design, quarry
    from eval.fleet.front import front, usual_steps
    from eval.fleet.judge import FleetJudge
    from eval.tables.splits import read_train_test

    tables = read_train_test(train, test, seed=seed)
    found = quarry(tables.train, *footprints)
    fleet = design(found, budgets, required)
    judge = FleetJudge(found, tables.test, seed)
    bounded = budgets.size is not None or budgets.load is not None
    within = judge.best_single_within(budgets) if bounded else None
    ways = (judge.routed(fleet), judge.told(fleet), judge.best_single())
    along = "load" if budgets.load is not None and budgets.size is None else "size"
    steps = front(
        found, judge, budgets, along=along, steps=usual_steps(found, along), required=required
    )
    shown = (*ways, within) if within else ways
    return _Study(fleet, shown, tuple(steps), along, len(judge), found.left_out)


def configuration(
    fleet: Fleet,
    sizes: dict[str, float],
    loads: dict[str, float],
    columns: tuple[str, str],
) -> str:
    """The fleet as a file for `serve`: a vLLM server per expert, on ports of this machine."""
    experts = []
    for place, name in enumerate(fleet.experts):
        entry: dict[str, Any] = {
            "id": name,
            "provider": "vllm",
            "model": name,
            "base_url": f"http://127.0.0.1:{_FIRST_PORT + place}/v1",
        }
        for column, known in zip(columns, (sizes, loads), strict=True):
            if column in ("total_params_b", "active_params_b") and known[name] > 0:
                entry["params_" + column.removesuffix("_params_b") + "_b"] = known[name]
        experts.append(entry)
    answered: dict[str, list[str]] = {}
    for task, name in fleet.expert_of.items():
        answered.setdefault(name, []).append(task)
    lines = ["# Chosen by `pointsman fleet design`. Who is best at what, by the outcomes given:"]
    lines += [f"#   {name}: {', '.join(tasks)}" for name, tasks in sorted(answered.items())]
    lines += ["# URLs are where `vllm serve MODEL --port PORT` would answer; change them to yours."]
    return "\n".join(lines) + "\n" + yaml.safe_dump({"experts": experts}, sort_keys=False)


@commands.command()
def assign(
    prompts: Annotated[Path, typer.Option(help="JSONL with a `prompt` in every line.")],
    capacity: Annotated[str, typer.Option(help="A=100,B=50: most requests of each expert.")],
    out_file: Annotated[Path, typer.Option("--out", help="JSONL with `expert` added.")],
    router: Annotated[str, typer.Option(help="Whose expectations to go by.")] = "default",
    cost_weight: Annotated[
        float, typer.Option(min=0, help="Quality worth giving up to save the dearest's price.")
    ] = 0.0,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Share a batch out for the highest total utility within every expert's capacity."""
    from gateway.cli.batch import shared_out

    told = shared_out(prompts, capacities_of(capacity), router, config, out_file, cost_weight)
    if json:
        show_json(told)
        return
    rows = [[name, f"{each['requests']:,}", f"{each['of']:,}", f"{each['price']:.4f}"]
            for name, each in told["experts"].items()]  # fmt: skip
    headings = {"expert": "left", "requests": "right", "of": "right", "shadow price": "right"}
    show_table(f"{told['requests']:,} requests shared out", headings, rows)
    out.print(f"expected quality {100 * told['quality']:.1f}, written to {out_file}")


@commands.command()
def residency(
    ledger: LedgerUrl = None,
    since: Since = None,
    until: Until = None,
    queue: Annotated[int, typer.Option(min=0, help="Coming requests whose expert is known.")] = 8,
    most_woken: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Share of requests that may wake one.")
    ] = 0.05,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """How many experts to keep awake, from who was asked one after another."""
    from eval.fleet.residency import advice
    from gateway.ledger.answered import experts_asked
    from gateway.ledger.database import existing

    settings = load_settings(config)
    with existing(ledger or settings.ledger_url) as engine:
        row = experts_asked(engine, day(since, 0.0), day(until, float("inf")), _MOST)
    found = advice(row, queue=queue, most_woken=most_woken)
    if json:
        show_json(asdict(found))
        return
    rows = [
        [str(each.awake), *(f"{share:.1%}" for share in astuple(each)[1:])] for each in found.rooms
    ]
    headings = dict.fromkeys(("awake", "the most asked", "LRU", "look-ahead"), "right")
    headings |= dict.fromkeys(("Belady", "per stretch"), "right")
    title = f"share of {found.requests:,} requests that would have found their expert awake"
    show_table(title, headings, rows)
    shares = ", ".join(f"{name} ({found.asked[name]:.0%})" for name in found.keep)
    out.print(f"keep {len(found.keep)} of {len(found.asked)} awake: {shares}", soft_wrap=True)


@commands.command()
def price(
    expert: Annotated[str, typer.Option(help="A,B: all that the machine serves.")],
    since: Annotated[str, typer.Option(help="First day or moment, e.g. 2026-11-01 (UTC).")],
    until: Annotated[str, typer.Option(help="First day or moment that no longer counts.")],
    usd_per_hour: Annotated[
        float | None, typer.Option(min=1e-9, help="What an hour of it costs; default: configured.")
    ] = None,
    ledger: LedgerUrl = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Correct what these calls have cost in the ledger.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """What local experts' tokens cost, from their machine's hours and the calls they answered."""
    from gateway.engines.machine_price import declared_usd_per_hour, priced

    settings = load_settings(config)
    span = day(since, 0.0), day(until, 0.0)
    experts = list(dict.fromkeys(name for name in expert.split(",") if name))
    hourly = declared_usd_per_hour(settings, experts) if usd_per_hour is None else usd_per_hour
    told = priced(ledger or settings.ledger_url, experts, hourly, span, apply=apply)
    if json:
        show_json(told)
        return
    _show_prices(told)


def _show_prices(told: dict[str, Any]) -> None:
    out.print(f"{told['hours']:.4g} machine hours for ${told['usd']:.4g}")
    rows = []
    for name, one in told["experts"].items():
        out.print(
            f"{name}: {one['calls']:,} calls took {one['busy_share']:.1%} of the time, "
            f"{one['at_once']:.2f} at once, {one['tokens_per_s']:.1f} tokens/s"
        )
        for paid_by, prices in (("all hours", one["whole"]), ("busy time", one["busy"])):
            rows.append([name, paid_by, f"{prices['input']:.4g}", f"{prices['output']:.4g}"])
    headings = {"expert": "left", "paid by": "left", "$/Mtok in": "right", "$/Mtok out": "right"}
    show_table("prices", headings, rows)
    paid = sum(one["reconciled"] * one["usd"] for one in told["experts"].values())
    out.print(f"the tokens at the first pay for {paid / told['usd']:.2%} of the machine")
    corrected = [one["corrected"] for one in told["experts"].values() if "corrected" in one]
    if corrected:
        out.print(f"{sum(corrected):,} attempts were corrected; budgets keep what they paid")


def capacities_of(text: str) -> dict[str, int]:
    """`A=100,B=50` as numbers by expert.

    Raises:
        ConfigError: Not of that form.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, count = part.partition("=")
        if not (name and equals and count.isdecimal()) or name in found:
            raise ConfigError(f"--capacity {part!r} must be EXPERT=NUMBER, each expert once")
        found[name] = int(count)
    return found


def _show(study: _Study) -> None:
    answered = [[task, name] for task, name in sorted(study.fleet.expert_of.items())]
    show_table("who answers what", {"task": "left", "expert": "left"}, answered)
    headings = {"": "left", "quality": "right", "95 % interval": "right", "load": "right"}
    headings |= {"size": "right", "above best single": "right"}
    rows = [_row(worth) for worth in study.ways]
    show_table(f"on {study.queries:,} held-out queries", headings, rows)
    columns = {f"{study.along} budget": "right", "experts": "left", "size": "right"}
    columns |= {"load": "right", "expected": "right", "quality": "right"}
    columns |= {"best single that fits": "right"}
    show_table("the front", columns, [_step(step, study.along) for step in study.steps])


def _row(worth: Worth) -> list[str]:
    between = worth.interval
    gained = worth.gain_interval
    return [
        worth.name,
        f"{100 * worth.quality:.1f}",
        f"{100 * between.low:.1f} to {100 * between.high:.1f}" if between else "",
        f"{worth.load:.3g}",
        f"{worth.size:.3g}",
        f"{100 * worth.gain:+.1f}"
        + (f" ({100 * gained.low:+.1f} to {100 * gained.high:+.1f})" if gained else ""),
    ]


def _step(step: FrontStep, along: str) -> list[str]:
    budget = getattr(step.fleet.budgets, along)
    single = step.single
    return [
        f"{budget:.3g}",
        ", ".join(step.fleet.experts),
        f"{step.routed.size:.3g}",
        f"{step.routed.load:.3g}",
        f"{100 * step.expected:.1f}",
        f"{100 * step.routed.quality:.1f}",
        f"{100 * single.quality:.1f}" if single else "none fits",
    ]


def _plain(study: _Study) -> dict[str, Any]:
    return {
        "experts": list(study.fleet.experts),
        "map": dict(study.fleet.expert_of),
        "held_out": [_worth(worth) for worth in study.ways],
        "along": study.along,
        "front": [
            {
                "budget": getattr(step.fleet.budgets, study.along),
                "experts": list(step.fleet.experts),
                "expected": step.expected,
                "held_out": _worth(step.routed),
                "single": _worth(step.single) if step.single else None,
            }
            for step in study.steps
        ],
    }


def _worth(worth: Worth) -> dict[str, Any]:
    return {
        "name": worth.name,
        "quality": worth.quality,
        "ci95": worth.interval and worth.interval.as_list(),
        "load": worth.load,
        "size": worth.size,
        "gain_over_best_single": worth.gain,
        "gain_ci95": worth.gain_interval and worth.gain_interval.as_list(),
    }
