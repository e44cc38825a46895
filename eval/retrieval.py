"""How well embedders find what queries are about: nDCG, and a table of outcomes to train from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eval.errors import SourceError
from eval.tables.record_files import RECORDS, Record
from routers.records import Floats, Vectors

DEPTH = 10


class Query(NamedTuple):
    """What somebody looks for.

    Attributes:
        query_id: Unique in its file.
        text: What is embedded.
        documents: Ids of the documents that answer it, one or more.
        task: Its domain, None unknown.
    """

    query_id: str
    text: str
    documents: tuple[str, ...]
    task: str | None = None


class RetrievalSet(NamedTuple):
    """Queries over documents.

    Attributes:
        queries: In any order.
        documents: Text by id; those of all domains are searched together.
    """

    queries: tuple[Query, ...]
    documents: Mapping[str, str]

    def relevant(self) -> npt.NDArray[np.bool_]:
        """Whether a document answers a query, shape (queries, documents)."""
        place = {name: index for index, name in enumerate(self.documents)}
        relevant_QD = np.zeros((len(self.queries), len(place)), dtype=bool)
        for row, query in enumerate(self.queries):
            relevant_QD[row, [place[name] for name in query.documents]] = True
        return relevant_QD


def read_retrieval(queries: Path, documents: Path) -> RetrievalSet:
    """Read two files, see `eval.tables.record_files`.

    Args:
        queries: Records of `query_id`, `query`, `documents` (ids) and perhaps `task`.
        documents: Records of `document_id` and `text`.

    Raises:
        SourceError: A file, row and field that is wrong.
    """
    texts: dict[str, str] = {}
    for number, record in _records(documents):
        name = _text(documents, number, record, "document_id")
        if name in texts:
            raise SourceError(documents, f"{name!r} stands there twice", row=number)
        texts[name] = _text(documents, number, record, "text")
    found: dict[str, Query] = {}
    for number, record in _records(queries):
        query = _query(queries, number, record)
        if missing := [name for name in query.documents if name not in texts]:
            raise SourceError(
                queries, f"{missing[0]!r} is no document", row=number, column="documents"
            )
        if query.query_id in found:
            raise SourceError(queries, f"{query.query_id!r} stands there twice", row=number)
        found[query.query_id] = query
    if not found:
        raise SourceError(queries, "holds no query")
    return RetrievalSet(tuple(found.values()), texts)


def ndcg(
    queries_QE: Vectors,
    documents_DE: Vectors,
    relevant_QD: npt.NDArray[np.bool_],
    depth: int = DEPTH,
) -> Floats:
    """Normalised discounted cumulative gain of a search by cosine.

    Of documents that are equally near those that don't answer come first, so that an embedder which
    can't tell texts apart gains nothing by it.

    Args:
        queries_QE: Vectors of the queries.
        documents_DE: Of the documents, by the same embedder; zeros are unlike everything.
        relevant_QD: What answers what; at least one document for each query.
        depth: Documents that are looked at.

    Returns:
        One figure in [0, 1] per query.

    Source: Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    similarity_QD = _unit(queries_QE) @ _unit(documents_DE).T
    # Products of the same vectors may differ in their last digits.
    order_QD = np.lexsort((relevant_QD, -similarity_QD.round(6)), axis=1)[:, :depth]
    gain_K = 1 / np.log2(np.arange(2, depth + 2))
    hits_QK = np.take_along_axis(relevant_QD, order_QD, axis=1)
    best_Q = np.cumsum(gain_K)[np.minimum(relevant_QD.sum(axis=1), depth) - 1]
    found_Q: Floats = hits_QK @ gain_K[: hits_QK.shape[1]] / best_Q
    return found_Q


def outcome_rows(found: RetrievalSet, score_Q: Floats, embedder: str) -> Iterator[dict[str, Any]]:
    """Rows of a table of outcomes: what `pointsman train` learns from.

    Args:
        found: The queries.
        score_Q: One embedder's figure for each.
        embedder: Its id.
    """
    for query, score in zip(found.queries, score_Q.tolist(), strict=True):
        yield {
            "query_id": query.query_id,
            "task": query.task,
            "prompt": query.text,
            "model": embedder,
            "score": score,
        }


def _unit(vectors_NE: Vectors) -> Floats:
    wide_NE = vectors_NE.astype(np.float64)
    norms_N1 = np.linalg.norm(wide_NE, axis=1, keepdims=True)
    unit_NE: Floats = wide_NE / np.where(norms_N1 > 0, norms_N1, 1.0)
    return unit_NE


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    read = RECORDS.get(path.suffix.lower())
    if read is None or not path.is_file():
        raise SourceError(path, f"must be a file ending in {', '.join(RECORDS)}")
    return read(path)


def _query(path: Path, number: int, record: Record) -> Query:
    documents, task = record.get("documents"), record.get("task")
    listed = isinstance(documents, list) and all(isinstance(each, str) for each in documents)
    if not documents or not listed:
        raise SourceError(path, "must list ids of documents", row=number, column="documents")
    if task is not None and not isinstance(task, str):
        raise SourceError(path, "must be a text", row=number, column="task")
    name, text = (_text(path, number, record, field) for field in ("query_id", "query"))
    return Query(name, text, tuple(documents), task)


def _text(path: Path, number: int, record: Record, field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value:
        raise SourceError(path, "must be a text", row=number, column=field)
    return value
