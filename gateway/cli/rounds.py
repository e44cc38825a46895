"""`pointsman rounds`: train a model to drive rounds over a pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from eval.report.pages import write_whole
from experts.cards import ExpertCard, Prices
from experts.compose.rounds.briefing import Briefing, Member
from gateway.cli.console import out, say
from gateway.cli.options import ApiKey, Config, LedgerUrl, Seed
from gateway.cli.window import Since, day
from gateway.errors import ConfigError
from gateway.ledger.database import existing
from gateway.settings.load import load_settings

if TYPE_CHECKING:
    from gateway.settings.rounds_recipe import RoundsRecipe
    from routers.rounds.train import Prompter, TrainingReport

commands = typer.Typer(help="Drivers of rounds: models that ask others.", no_args_is_help=True)


@commands.command()
def traces(
    expert: Annotated[str, typer.Option(help="The composition of kind rounds.")],
    file: Annotated[Path, typer.Option("--out", help="JSONL file, for `train --traces`.")],
    ledger: LedgerUrl = None,
    least_score: Annotated[float, typer.Option(min=0, max=1, help="Of the answer.")] = 1.0,
    since: Since = None,
    config: Config = None,
) -> None:
    """Conversations from the ledger whose answers scored well, to be imitated."""
    from gateway.rounds.logged_traces import logged_traces

    url = ledger or load_settings(config).ledger_url
    with existing(url) as engine:
        start = day(since, 0.0)
        found = list(logged_traces(engine, expert, least_score=least_score, since=start))
    lines = b"".join(orjson.dumps(row) + b"\n" for row in found)
    write_whole(file, lambda written: written.write_bytes(lines))
    out.print(f"{len(found)} conversations: {file}")


@commands.command()
def train(
    recipe: Annotated[Path, typer.Option(help="YAML file, see config/recipes.")],
    questions: Annotated[Path, typer.Option(help="JSONL: question and answers on each line.")],
    endpoint: Annotated[str, typer.Option(help="URL of a gateway with the pool, ending in /v1.")],
    folder: Annotated[Path, typer.Option("--out", help="Where policy and notes go.")],
    traces: Annotated[
        Path | None, typer.Option(help="JSONL to imitate first: question, answers, transcript.")
    ] = None,
    key: ApiKey = None,
    seed: Seed = 0,
) -> None:
    """Imitate traces, then improve by reward; DIR/policy can be served by vLLM or transformers."""
    from gateway.rounds.endpoint_pool import EndpointPool
    from gateway.settings.rounds_recipe import read_recipe
    from routers.rounds.extra import needs
    from routers.rounds.train import Trajectory, optimise, prompt_tokens, warm_start

    told = read_recipe(recipe)
    asked, shown = read_rows(questions), read_rows(traces, "transcript") if traces else []
    transformers = needs("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(told.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(told.model)
    prompter, most = prompter_of(told), told.limits.prompt_tokens
    rows = [row for row in asked if len(prompt_tokens(tokenizer, prompter(row))) <= most]
    say(f"{len(rows)} questions; {len(asked) - len(rows)} are longer than {most} tokens")
    if shown:
        warm_start(
            model,
            tokenizer,
            [Trajectory(row, row["transcript"]) for row in shown],
            folder / "warm",
            prompter=prompter,
            words=told.words.words(),
            settings={**told.warm, "seed": seed},
        )
    prices = {expert.id: expert.usd_per_mtok for expert in told.pool}
    pool = EndpointPool(endpoint, prices, key=key, reply_tokens=told.limits.reply_tokens)
    trained = optimise(
        model,
        tokenizer,
        rows,
        pool,
        folder / "grpo",
        rule=told.rule(),
        limits=told.limits.limits(),
        prompter=prompter,
        settings={"max_completion_length": told.limits.turn_tokens, **told.grpo, "seed": seed},
    )
    _keep(model, tokenizer, trained, folder)
    for failure in pool.failures[:3]:
        say(f"not answered: {failure}")
    out.print(
        f"{len(trained.steps)} batches, {len(pool.failures)} calls failed; {folder / 'policy'}"
    )


def _keep(model: Any, tokenizer: Any, trained: TrainingReport, folder: Path) -> None:
    """The policy, as vLLM and transformers serve it, and what each batch reported."""
    model.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    steps = "".join(f"{orjson.dumps(step).decode()}\n" for step in trained.steps)
    (folder / "steps.jsonl").write_text(steps)


def prompter_of(recipe: RoundsRecipe) -> Prompter:
    """How the driver is asked in training: as `experts.compose.rounds.driver` asks it."""
    briefing = Briefing(words=recipe.words.words())
    members = [
        Member(
            ExpertCard(each.id, each.description, Prices(each.usd_per_mtok, each.usd_per_mtok)),
            each.latency_s,
            each.examples,
        )
        for each in recipe.pool
    ]

    def prompter(row: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": briefing.prompt(row["question"], members)}]

    return prompter


def read_rows(path: Path, *more: str) -> list[dict[str, Any]]:
    """Questions from a JSONL file: `question`, `answers`, and the texts named in `more`.

    Raises:
        ConfigError: The file, the line and the field that is wrong.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
    return [_row(f"{path}:{n}", line, more) for n, line in enumerate(lines, 1) if line.strip()]


def _row(where: str, line: bytes, more: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be an object")
    for name in ("question", *more):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ConfigError(f"{where}: {name} must be a text")
    answers = row.get("answers")
    if not isinstance(answers, list) or not all(isinstance(each, str) for each in answers):
        raise ConfigError(f"{where}: answers must be a list of texts")
    return row
