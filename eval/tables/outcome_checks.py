"""What an outcome file must keep to, row by row; the first breach is named and nothing repaired."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.tables.outcome_columns import Columns

Codes = npt.NDArray[np.int64]
_AT_LEAST_ZERO = ("prompt_tokens", "completion_tokens", "cost_usd", "latency_s", "nll")


def check_columns(columns: Columns) -> None:
    """Check every rule.

    Raises:
        SourceError: The first row that breaks a rule, with its column, what it holds and why not.
    """
    _check_present(columns)
    _check_ranges(columns)
    queries_R = codes(columns.texts["query_id"])
    _check_unique(columns, queries_R, codes(columns.texts["model"]))
    for name in ("task", "dup_group", "split"):
        if name in columns.texts:
            _check_constant(columns, queries_R, name)
    _check_prompts(columns, queries_R)


def codes(texts: Any) -> Codes:
    """A number per text, equal for equal texts, counted from 0 by first appearance; null is -1."""
    indices = texts.dictionary_encode().indices
    return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _check_present(columns: Columns) -> None:
    for name in ("query_id", "prompt", "model"):
        texts = columns.texts[name]
        absent = np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False))
        if absent.size:
            raise columns.error(int(absent[0]), name, "must not be empty")
    for name in ("query_id", "model"):
        trimmed = pc.utf8_trim_whitespace(columns.texts[name])
        blank = np.flatnonzero(pc.equal(trimmed, "").to_numpy(zero_copy_only=False))
        if blank.size:
            raise columns.error(int(blank[0]), name, "must not be blank")


def _check_ranges(columns: Columns) -> None:
    score_R = columns.numbers["score"]
    advice = "; leave it empty where there was no grade"
    _check_range(columns, "score", (score_R < 0) | (score_R > 1), f"from 0 to 1{advice}")
    if "propensity" in columns.numbers:
        propensity_R = columns.numbers["propensity"]
        bad_R = (propensity_R <= 0) | (propensity_R > 1)
        _check_range(columns, "propensity", bad_R, "above 0 and at most 1")
    for name in _AT_LEAST_ZERO:
        if name in columns.numbers:
            values_R = columns.numbers[name]
            bad_R = (values_R < 0) | np.isinf(values_R)
            _check_range(columns, name, bad_R, "of 0 or more, or empty where it is unknown")


def _check_range(columns: Columns, name: str, bad_R: npt.NDArray[np.bool_], rule: str) -> None:
    bad = np.flatnonzero(bad_R)
    if bad.size:
        record = int(bad[0])
        value = columns.numbers[name][record]
        whose = (
            f"query {_text(columns, 'query_id', record)}, model {_text(columns, 'model', record)}"
        )
        raise columns.error(record, name, f"must be a number {rule}; got {value:g} ({whose})")


def _check_unique(columns: Columns, queries_R: Codes, models_R: Codes) -> None:
    cells_R = queries_R * (int(models_R.max()) + 1) + models_R
    order = np.argsort(cells_R, kind="stable")
    again = order[1:][cells_R[order][1:] == cells_R[order][:-1]]
    if again.size:
        record = int(again.min())
        first = int(np.flatnonzero(cells_R == cells_R[record])[0])
        query, model = _text(columns, "query_id", record), _text(columns, "model", record)
        message = f"query {query} has model {model} already in row {columns.row_numbers_R[first]}"
        raise columns.error(record, "model", message)


def _check_constant(columns: Columns, queries_R: Codes, name: str) -> None:
    values_R = codes(columns.texts[name])
    first_R = first_records(queries_R)[queries_R]
    differs = np.flatnonzero(values_R != values_R[first_R])
    if differs.size:
        raise _two_values(columns, name, int(differs[0]), int(first_R[differs[0]]))


def _check_prompts(columns: Columns, queries_R: Codes) -> None:
    prompts_R = codes(columns.texts["prompt"])
    first_R = first_records(queries_R)[queries_R]
    for record in np.flatnonzero(prompts_R != prompts_R[first_R]):
        first = int(first_R[record])
        if not _same_question(columns.texts["prompt"], int(record), first):
            raise _two_values(columns, "prompt", int(record), first)


def _same_question(prompts: Any, left: int, right: int) -> bool:
    """One text holding the other is the same question, put with more or fewer examples."""
    texts = (" ".join(prompts[record].as_py().split()) for record in (left, right))
    shorter, longer = sorted(texts, key=len)
    return bool(shorter) and shorter in longer


def _two_values(columns: Columns, name: str, record: int, first: int) -> Exception:
    query = _text(columns, "query_id", record)
    values = f"{_text(columns, name, first)} and {_text(columns, name, record)}"
    rows = f"rows {columns.row_numbers_R[first]} and {columns.row_numbers_R[record]}"
    message = f"query {query} must have one {name}, but has two, {values}, in {rows}"
    return columns.error(record, name, message)


def _text(columns: Columns, name: str, record: int) -> str:
    value = columns.texts[name][record].as_py()
    if value is None:
        return "none"
    return repr(value if len(value) <= 60 else value[:57] + "...")


def first_records(codes_R: Codes) -> Codes:
    """Index of the first record of each code, which count from 0 without gaps."""
    return np.unique(codes_R, return_index=True)[1].astype(np.int64)
