"""`pointsman experts retrieval`: how well each embedder finds what queries are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx2
import numpy as np
import typer

from gateway.cli.asking import client_of, told
from gateway.cli.console import say, show_json, show_table
from gateway.cli.endpoint import some_gateway
from gateway.cli.options import ApiKey, AsJson, Config, Url
from gateway.cli.progress import counting
from gateway.errors import ConfigError
from gateway.settings.load import load_settings
from routers.records import Vectors

_AT_ONCE = 64
_TIMEOUT_S = 300.0


def retrieval(
    queries: Annotated[
        Path, typer.Option(help="JSONL: query_id, query, documents (ids that answer it), task?.")
    ],
    documents: Annotated[Path, typer.Option(help="JSONL: document_id, text.")],
    out_file: Annotated[Path, typer.Option("--out", help=".parquet, .csv or .jsonl file.")],
    experts: Annotated[str, typer.Option(help="Ids with commas between, or all.")] = "all",
    url: Url = None,
    key: ApiKey = None,
    config: Config = None,
    json: AsJson = False,
) -> None:
    """Embed queries and documents by every embedder, and write each one's nDCG@10 per query.

    `train --estimator pilot+tfidf --data` makes the router of the file.
    """
    # Not at the top: the other commands answer in half the time without Arrow.
    from eval.retrieval import ndcg, outcome_rows, read_retrieval
    from eval.tables.sources import write_outcomes

    found = read_retrieval(queries, documents)
    texts = [query.text for query in found.queries]
    rows: list[dict[str, Any]] = []
    means: dict[str, float] = {}
    with (
        some_gateway(url, load_settings(config)) as base,
        client_of(base, key, _TIMEOUT_S) as client,
    ):
        names = _embedders(client) if experts == "all" else experts.split(",")
        with counting(names, len(texts) + len(found.documents)) as step:
            for name in names:
                asked_QE = _embedded(client, name, texts, step)
                held_DE = _embedded(client, name, list(found.documents.values()), step)
                score_Q = ndcg(asked_QE, held_DE, found.relevant())
                means[name] = float(score_Q.mean())
                rows += outcome_rows(found, score_Q, name)
    written = write_outcomes(rows, out_file)
    if json:
        show_json({"ndcg_at_10": means, "queries": len(texts), "out": str(written)})
        return
    table = [[name, f"{mean:.3f}"] for name, mean in sorted(means.items(), key=_by_figure)]
    show_table("embedders", {"expert": "left", "nDCG@10": "right"}, table)
    say(f"written to {written}")


def _by_figure(item: tuple[str, float]) -> float:
    return -item[1]


def _embedders(client: httpx2.Client) -> list[str]:
    about = [model["pointsman"] for model in told(client, "GET", "/v1/models")["data"]]
    named = {each["expert"] for each in about if each.get("api") == "embeddings"}
    if not named:
        raise ConfigError("no expert of this gateway makes embeddings")
    return sorted(named)


def _embedded(
    client: httpx2.Client, expert: str, texts: Sequence[str], step: Callable[[str], None]
) -> Vectors:
    vectors: list[list[float]] = []
    for start in range(0, len(texts), _AT_ONCE):
        body = {"model": expert, "input": texts[start : start + _AT_ONCE]}
        answer = told(client, "POST", "/v1/embeddings", body)
        for item in answer["data"]:
            vectors.append(item["embedding"])
            step(expert)
    return np.asarray(vectors, dtype=np.float32)
