"""A command asks every embedder and writes what each finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.tables.sources import read_outcomes
from experts.cards import ExpertCard
from experts.embedder import EmbedderExpert
from routers.records import Vectors
from tests.commands import run


def by_letter(letters: str) -> Callable[[Sequence[str]], Vectors]:
    """Embeds by how often some letters come in a text."""

    def encode(texts: Sequence[str]) -> Vectors:
        return np.array([[text.count(letter) for letter in letters] for text in texts], np.float32)

    return encode


def test_what_each_embedder_finds_is_a_table_to_train_from(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    experts = {
        name: EmbedderExpert(ExpertCard(name, api="embeddings", space=name), by_letter(letters))
        for name, letters in (("early", "ab"), ("late", "yz"))
    }
    served = serve(experts)
    queries, documents, out = (tmp_path / name for name in ("q.jsonl", "d.jsonl", "o.parquet"))
    documents.write_text(
        "\n".join(json.dumps({"document_id": each, "text": each * 3}) for each in "abyz")
    )
    queries.write_text(
        "\n".join(
            json.dumps({"query_id": each, "query": each, "documents": [each], "task": "letters"})
            for each in "aby"
        )
    )
    words = ["--queries", str(queries), "--documents", str(documents), "--out", str(out)]
    told = json.loads(run("experts", "retrieval", *words, "--url", served.url, "--json").stdout)
    # Who can't tell a text from the others has it in the last place.
    last = 1 / np.log2(5)
    assert told["ndcg_at_10"]["early"] == np.mean([1, 1, last])
    assert read_outcomes(out).table.experts == ("early", "late")
    assert read_outcomes(out).table.score_NA[:, 1].round(9).tolist() == [
        round(last, 9), round(last, 9), 1.0,
    ]  # fmt: skip
