"""`pointsman shelves`: examples and guidelines from the ledger, to be told with requests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eval.best_answers import ExampleRules, GradedAnswer, best_answers
from gateway.cli.console import out, say, show_json
from gateway.cli.endpoint import some_gateway
from gateway.cli.graded import parse_tags
from gateway.cli.options import ApiKey, AsJson, Config, LedgerUrl, Seed, Tags, Url
from gateway.cli.progress import stages
from gateway.cli.writing import WritingModel
from gateway.errors import ConfigError, NothingToLearnError
from gateway.ledger.answers import graded_answers
from gateway.ledger.database import existing
from gateway.settings.load import load_settings
from gateway.settings.root import Settings
from routers.registry import make_encoder
from routers.storage.shelf import Shelf, ShelfExample

commands = typer.Typer(help="Examples and guidelines from the log.", no_args_is_help=True)


@commands.command()
def build(
    out_file: Annotated[Path, typer.Option("--out", help="The file to write.")],
    distiller: Annotated[
        str | None, typer.Option(help="Expert that writes guidelines; none: answers as they are.")
    ] = None,
    tag: Tags = None,
    objective: Annotated[str, typer.Option(help="Which scores.")] = "quality",
    then: Annotated[str | None, typer.Option(help="Objective that settles ties.")] = None,
    at_least: Annotated[float, typer.Option(min=0, max=1, help="Lowest good score.")] = 1.0,
    most: Annotated[int, typer.Option(min=1, help="Most questions.")] = 2000,
    encoder: Annotated[str, typer.Option(help="tfidf, static, minilm or hashing.")] = "tfidf",
    seed: Seed = 0,
    ledger: LedgerUrl = None,
    url: Url = None,
    key: ApiKey = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Build a shelf for `templates` and `medprompt` from answers that were graded good."""
    settings = load_settings(config)
    rules = ExampleRules(most=1 if distiller is None else 3, at_least=at_least)
    left_out: dict[str, int] = {}
    with existing(ledger or settings.ledger_url) as engine:
        answers = graded_answers(
            engine, left_out, objective=objective, second=then, tags=parse_tags(tag)
        )
        questions = list(islice(best_answers(answers, rules), most))
    for reason, count in left_out.items():
        say(f"left out: {count} scored answers {reason}")
    if not questions:
        raise NothingToLearnError(f"no graded answer in the ledger scored at least {at_least:g}")
    examples = (
        [_as_it_is(answers) for answers in questions]
        if distiller is None
        else _guidelines(distiller, questions, settings, url, key)
    )
    shelf = Shelf.build(examples, make_encoder(encoder), np.random.default_rng(seed))
    digest = shelf.save(out_file)
    if json:
        show_json({"file": str(out_file), "examples": len(examples), "sha256": digest})
    else:
        out.print(f"{len(examples)} examples in {out_file}")


@commands.command()
def near(
    file: Annotated[Path, typer.Argument(help="A shelf.")],
    question: Annotated[str, typer.Argument(help="A request.")],
    most: Annotated[int, typer.Option(min=1, help="Most examples.")] = 3,
    json: AsJson = False,
) -> None:
    """What a request would be told."""
    found = Shelf.load(file).near(question, most)
    if json:
        show_json([{"question": e.question, "text": e.text, "task": e.task} for e in found])
        return
    for example in found:
        out.print(f"{example.question}\n  {example.text}", markup=False, soft_wrap=True)


def _as_it_is(answers: Sequence[GradedAnswer]) -> ShelfExample:
    best = answers[0]
    return ShelfExample(best.prompt, best.answer, best.task)


def _guidelines(
    distiller: str,
    questions: Sequence[Sequence[GradedAnswer]],
    settings: Settings,
    url: str | None,
    key: str | None,
) -> list[ShelfExample]:
    with some_gateway(url, settings) as base, stages() as progress:
        written = WritingModel(base, distiller, key, progress).guidelines(questions)
    examples = [
        ShelfExample(answers[0].prompt, text, answers[0].task)
        for answers, text in zip(questions, written, strict=True)
        if text is not None
    ]
    if not examples:
        raise ConfigError(f"{distiller!r} wrote no guideline; is it an expert that answers?")
    if len(examples) < len(questions):
        say(f"{len(questions) - len(examples)} questions got no guideline and are left out")
    return examples
