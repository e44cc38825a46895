"""Is routing among domain embedders worth it? Three of them, over texts that come with Python.

`python -m benchmarks.embedders` embeds all texts (a minute), fits routers on the `train` part and
judges them on `test`, which shares no document with it: nDCG@10, all domains searched together in
the index of whoever embeds the query, with 95 % intervals over documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import HashingVectorizer

from benchmarks.embedding.texts import DOMAINS, retrieval_sets
from eval.metrics.intervals import ClusterBootstrap, percentile_interval
from eval.retrieval import RetrievalSet, ndcg
from experts.embedder import Encode
from gateway.embedding.encoders import encoder_of
from gateway.settings.experts import EmbedderSettings
from routers.encoders.lexical import TfidfSvdEncoder, unit
from routers.fitting.fit import fit_router
from routers.records import Floats, OutcomeTable, Vectors

RECIPES = ("pilot+tfidf", "category+tfidf")
_CLEAR = 0.1
_BUCKETS = 2048


class Measured(NamedTuple):
    """One part of the texts, and how well each embedder finds what its queries are about.

    Attributes:
        found: The part.
        embedders: Their ids.
        score_QE: nDCG@10 of each query in each embedder's own index.
    """

    found: RetrievalSet
    embedders: tuple[str, ...]
    score_QE: Floats

    def tasks(self) -> list[str]:
        """The domain of each query."""
        return [str(query.task) for query in self.found.queries]

    def table(self) -> OutcomeTable:
        """As routers are trained from it."""
        unknown_QE = np.full(self.score_QE.shape, np.nan)
        names = tuple(query.query_id for query in self.found.queries)
        return OutcomeTable(
            names,
            tuple(query.text for query in self.found.queries),
            tuple(self.tasks()),
            tuple(query.documents[0] for query in self.found.queries),
            self.embedders,
            self.score_QE,
            *(unknown_QE,) * 4,
            np.ones(self.score_QE.shape),
        )


def letters(found: RetrievalSet, task: str) -> Encode:
    """An embedder of one domain: one to three letters in a row, the rarer there the heavier."""
    texts = [query.text for query in found.queries if query.task == task]
    texts += [text for name, text in found.documents.items() if name.startswith(task)]
    hashed = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 3), n_features=_BUCKETS, alternate_sign=False
    )
    seen_B = (hashed.transform(texts) > 0).sum(axis=0).A1
    weight_B = np.log((1 + len(texts)) / (1 + seen_B)) + 1

    def encode(given: Sequence[str]) -> Vectors:
        counts_NB = hashed.transform([text.lower() for text in given]).toarray()
        return unit((np.sqrt(counts_NB) * weight_B).astype(np.float32))

    return encode


def embedders(fit: RetrievalSet) -> Mapping[str, Encode]:
    """By id, sorted. What is fitted to a domain is fitted to texts that nobody is judged by."""
    made = {
        name: encoder_of(EmbedderSettings(kind="embedder", id=name, encoder=encoder)).encode
        for name, encoder in (("minilm", "minilm"), ("static", "static"))
    }
    return {"letters": letters(fit, "names"), **made}


def measured(found: RetrievalSet, encoders: Mapping[str, Encode]) -> Measured:
    """Search for every query in every embedder's index."""
    texts, relevant_QD = [query.text for query in found.queries], found.relevant()
    columns = [
        ndcg(encode(texts), encode(list(found.documents.values())), relevant_QD)
        for encode in encoders.values()
    ]
    return Measured(found, tuple(encoders), np.stack(columns, axis=1))


def routed(recipe: str, train: Measured, test: Measured) -> Floats:
    """What a router reaches on each query of `test`."""
    router = fit_router("embedders", recipe, train.table(), seed=0)
    features = router.featurizer.transform([query.text for query in test.found.queries])
    return _taken(test, router.estimator.predict(features).quality_NA)


def by_mean_similarity(train: Measured, test: Measured) -> Floats:
    """RouterRetriever's own rule: the embedder whose pilots are most similar, on average."""
    texts = [query.text for query in train.found.queries]
    encoder = TfidfSvdEncoder().fit(texts, np.random.default_rng(0))
    vectors_QD, tasks_Q = encoder.encode(texts), np.array(train.tasks())
    second_Q, first_Q = np.sort(train.score_QE, axis=1)[:, -2:].T
    winner_Q = np.where(first_Q - second_Q >= _CLEAR, train.score_QE.argmax(axis=1), -1)
    asked_QD = encoder.encode([query.text for query in test.found.queries])
    similar_QE = np.full((len(asked_QD), len(train.embedders)), -1.0)
    for column in range(len(train.embedders)):
        won = [vectors_QD[(tasks_Q == task) & (winner_Q == column)] for task in DOMAINS]
        pilots = [each.mean(axis=0) for each in won if len(each)]
        if pilots:
            similar_QE[:, column] = (asked_QD @ unit(np.stack(pilots)).T).mean(axis=1)
    return _taken(test, similar_QE)


def _taken(test: Measured, expected_QE: Floats) -> Floats:
    chosen_Q = expected_QE.argmax(axis=1)
    taken_Q: Floats = test.score_QE[np.arange(len(chosen_Q)), chosen_Q]
    return taken_Q


def ways(train: Measured, test: Measured) -> dict[str, Floats]:
    """What each embedder alone, each router and two oracles reach on every query of `test`."""
    found = {name: test.score_QE[:, place] for place, name in enumerate(test.embedders)}
    found |= {recipe: routed(recipe, train, test) for recipe in RECIPES}
    found["nearest pilots on average"] = by_mean_similarity(train, test)
    of_task_QE = np.zeros_like(test.score_QE)
    for task in DOMAINS:
        rows = np.array(test.tasks()) == task
        of_task_QE[rows] = test.score_QE[rows].mean(axis=0)
    found["best embedder of each domain"] = _taken(test, of_task_QE)
    found["best embedder of each query"] = test.score_QE.max(axis=1)
    return found


def main() -> None:
    """Embed, route, and print the table."""
    parts = retrieval_sets()
    encoders = embedders(parts["fit"])
    train, test = (measured(parts[part], encoders) for part in ("train", "test"))
    found = ways(train, test)
    best = max(test.embedders, key=lambda name: float(found[name].mean()))
    bootstrap = ClusterBootstrap([query.documents[0] for query in test.found.queries], seed=0)
    title = f"nDCG@10 of {len(test.found.queries)} queries over {len(test.found.documents)} texts"
    table = Table("", *DOMAINS, "all", f"over {best}", title=title)
    tasks_Q = np.array(test.tasks())
    for name, score_Q in found.items():
        cells = [f"{score_Q[tasks_Q == task].mean():.3f}" for task in DOMAINS]
        more_Q = score_Q - found[best]
        drawn_B = bootstrap.means(more_Q[None], np.ones((1, len(more_Q))))[:, 0]
        interval = percentile_interval(drawn_B)
        spread = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
        table.add_row(name, *cells, f"{score_Q.mean():.3f}", f"{more_Q.mean():+.3f}{spread}")
    Console().print(table)


if __name__ == "__main__":
    main()
