"""Outcome files of other projects: RouteLLM, RouterBench, LLMRouterBench, RouterArena, LLMRouter.

Each is recognised by its columns and turned into rows of our own format (`eval.tables.sources`).
What a format does not say stays unknown. Written from what the projects publish of their files;
none of their code is used, and pickles are refused, since loading one runs code.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.errors import SourceError
from eval.tables.outcome_checks import check_columns
from eval.tables.outcome_columns import REQUIRED_COLUMNS, Columns, from_records
from eval.tables.record_files import RECORDS, Record

Rows = Iterator[dict[str, Any]]

_PICKLES = (".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class Form:
    """A file format.

    Attributes:
        name: What `--format` calls it.
        keys: What every record of it holds.
        rows: A record to outcome rows; it may raise `ValueError`, whose text says what is wrong.
        note: What a reader must know of it, as a whole sentence; "" for nothing.
    """

    name: str
    keys: frozenset[str]
    rows: Callable[[Record, Path, int], Rows]
    note: str = ""


def read_foreign(path: Path, form: str | None) -> tuple[Columns, tuple[str, ...]] | None:
    """Read a file, or all files of a folder, in a format of another project.

    Args:
        path: The file or folder.
        form: Its format's name; None to recognise it.

    Returns:
        The columns and notes; None when it is not (to be) read as a foreign format.

    Raises:
        SourceError: It is malformed, or of no known format where only those are possible.
    """
    if form is not None and form not in FORMS:
        known = ", ".join(FORMS)
        raise SourceError(path, f"unknown format {form!r}; known are {known}, and auto")
    if path.is_dir():
        return _read_folder(path, form)
    if path.suffix.lower() in _PICKLES:
        raise SourceError(
            path,
            "is a pickle, and loading one runs code; write it as Parquet where you trust it: "
            "pandas.read_pickle(...).to_parquet(...)",
        )
    found = _form_of(path, form)
    if found is None:
        return None
    return _read_file(path, found), _notes(path, found)


def _read_folder(path: Path, form: str | None) -> tuple[Columns, tuple[str, ...]]:
    files = sorted(each for each in path.rglob("*") if each.suffix.lower() in RECORDS)
    if not files:
        raise SourceError(path, f"the folder holds no {', '.join(RECORDS)} file")
    first = _form_of(files[0], form)
    if first is None:
        raise SourceError(files[0], "is of no kind that a folder may hold; name one file")
    for file in files[1:]:
        if _form_of(file, form) != first:
            raise SourceError(file, f"is not in the same format as {files[0].name}")
    parts = [_read_file(file, first) for file in files]
    return _joined(path, [part for part in parts if len(part)]), _notes(path, first)


def _form_of(path: Path, form: str | None) -> Form | None:
    if path.suffix.lower() not in RECORDS:
        return None
    if form is not None:
        missing = sorted(FORMS[form].keys - _names(path))
        if missing:
            message = f"is not in the format {form}: it is missing"
            raise SourceError(path, message, column=missing[0])
        return FORMS[form]
    try:
        names = _names(path)
    except SourceError:
        if path.suffix.lower() == ".json":
            raise
        # The reader of our own format says better what is wrong.
        return None
    if names >= set(REQUIRED_COLUMNS):
        return None
    # The one that asks for most is the likeliest.
    fitting = [each for each in FORMS.values() if each.keys <= names]
    best = max(fitting, key=lambda each: len(each.keys), default=None)
    if best is FORMS["routellm"] and not _is_wide(names):
        return None
    return best


def _names(path: Path) -> set[str]:
    """The keys of a file's first record."""
    if path.suffix.lower() == ".parquet" and path.is_file():
        try:
            return set(pq.ParquetFile(path).schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(path, f"not a readable Parquet file: {error}") from error
    for _, record in RECORDS[path.suffix.lower()](path) if path.is_file() else ():
        return set(record)
    return set()


def _read_file(path: Path, form: Form) -> Columns:
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, record in RECORDS[path.suffix.lower()](path):
        for key in sorted(form.keys):
            if key not in record:
                raise SourceError(path, "missing in this row", row=number, column=key)
        try:
            found = list(form.rows(record, path, number))
        except ValueError as error:
            raise SourceError(path, str(error), row=number) from error
        records += found
        numbers += [number] * len(found)
    if not records:
        raise SourceError(path, "the file holds no rows")
    columns = from_records(path, records, np.array(numbers, dtype=np.int64))
    check_columns(columns)
    return columns


def _joined(path: Path, parts: list[Columns]) -> Columns:
    texts = {name for part in parts for name in part.texts}
    numbers = {name for part in parts for name in part.numbers}
    return Columns(
        path,
        np.concatenate([part.row_numbers_R for part in parts]),
        {
            name: pa.concat_arrays(
                [part.texts.get(name, pa.nulls(len(part), pa.large_string())) for part in parts]
            )
            for name in texts
        },
        {
            name: np.concatenate(
                [part.numbers.get(name, np.full(len(part), np.nan)) for part in parts]
            )
            for name in numbers
        },
    )


def _notes(path: Path, form: Form) -> tuple[str, ...]:
    said = f"{path.name} was read as a file of {form.name}."
    return (f"{said} {form.note}".strip(),)


def _routellm(record: Record, path: Path, number: int) -> Rows:
    """`prompt`, and per model its name with True or False, or a score; answers beside them."""
    task = path.stem.removesuffix("_responses")
    for model in _wide_models(record):
        yield {
            "query_id": f"{task}/{number}",
            "task": task,
            "prompt": record["prompt"],
            "model": model,
            "score": _score(record[model], model),
        }


def _wide_models(names: Iterable[str]) -> list[str]:
    present = list(names)
    answers = {f"{name}_response" for name in present}
    return [name for name in present if name != "prompt" and name not in answers]


def _is_wide(names: Iterable[str]) -> bool:
    models = _wide_models(names)
    # One odd column more is a table of something else.
    return len(models) >= 2 and not {"query_id", "model", "score", "split", "task"} & set(models)


def _routerbench(record: Record, path: Path, number: int) -> Rows:
    """A wide table: per model its score, `model|total_cost` and `model|model_response`."""
    models = sorted({name.split("|", 1)[0] for name in record if "|" in name})
    if not models:
        raise ValueError("has no column like 'model|total_cost', so that no model is known")
    for model in models:
        if model not in record:
            raise ValueError(f"has '{model}|...' but no column {model!r} with its score")
        yield {
            "query_id": _text(record["sample_id"]),
            "task": _text(record["eval_name"]),
            "prompt": _unlisted(_text(record["prompt"])),
            "model": model,
            "score": _score(record[model], model),
            "cost_usd": _number(record.get(f"{model}|total_cost"), f"{model}|total_cost"),
        }


def _unlisted(prompt: str) -> str:
    """The text of a prompt that was written as a Python list of texts."""
    if not prompt.lstrip().startswith("["):
        return prompt
    try:
        parts = ast.literal_eval(prompt.strip())
    except (ValueError, SyntaxError):
        return prompt
    if isinstance(parts, list) and parts and all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return prompt


def _llmrouterbench(record: Record, path: Path, number: int) -> Rows:
    """One model on one data set: an object with `records`."""
    if record.get("demo"):
        raise ValueError("is a trial run ('demo' is true); leave the file out")
    # A model that runs on one's own machine has a cost of 0, which stands for unknown.
    cost = _number(record.get("cost"), "cost") or None
    yield {
        "query_id": f"{record['dataset_name']}/{record['index']}",
        "task": _text(record["dataset_name"]),
        "prompt": _text(record["origin_query"]),
        "model": _text(record["model_name"]),
        "score": _score(record["score"], "score"),
        "prompt_tokens": _number(record.get("prompt_tokens"), "prompt_tokens"),
        "completion_tokens": _number(record.get("completion_tokens"), "completion_tokens"),
        "cost_usd": cost,
    }


def _routerarena(record: Record, path: Path, number: int) -> Rows:
    """One line per answer: `global_index`, `question`, `llm_selected`, `evaluation_result`."""
    graded = record["evaluation_result"] or {}
    used = record.get("token_usage") or {}
    if not isinstance(graded, dict) or not isinstance(used, dict):
        raise ValueError("evaluation_result and token_usage must be JSON objects")  # noqa: TRY004
    index = _text(record["global_index"])
    yield {
        "query_id": index,
        "task": index.rpartition("_")[0] or None,
        "prompt": _text(record["question"]),
        "model": _text(record["llm_selected"]),
        "score": _score(graded.get("score"), "evaluation_result.score"),
        "prompt_tokens": _number(used.get("input_tokens"), "token_usage.input_tokens"),
        "completion_tokens": _number(used.get("output_tokens"), "token_usage.output_tokens"),
        "cost_usd": _number(graded.get("inference_cost"), "evaluation_result.inference_cost"),
    }


def _llmrouter(record: Record, path: Path, number: int) -> Rows:
    """One line per query and model: `task_name`, `query`, `model_name`, `performance`."""
    task, query = _text(record["task_name"]), _text(record["query"])
    place = record.get("embedding_id")
    yield {
        "query_id": _digest(task, query) if place is None else f"{task}/{place}",
        "task": task,
        "prompt": query,
        "model": _text(record["model_name"]),
        "score": _score(record["performance"], "performance"),
        "prompt_tokens": _number(record.get("input_tokens"), "input_tokens"),
        "completion_tokens": _number(record.get("output_tokens"), "output_tokens"),
        "latency_s": _number(record.get("response_time"), "response_time"),
    }


def _graphrouter(record: Record, path: Path, number: int) -> Rows:
    """One line per query and model: `task_id`, `query`, `llm`, `effect`."""
    task, query = _text(record["task_id"]), _text(record["query"])
    yield {
        "query_id": _digest(task, query),
        "task": task,
        "prompt": query,
        "model": _text(record["llm"]),
        "score": _score(record["effect"], "effect"),
    }


FORMS: Final[Mapping[str, Form]] = {
    form.name: form
    for form in (
        Form("routellm", frozenset({"prompt"}), _routellm, "It tells no costs and no tokens."),
        Form("routerbench", frozenset({"sample_id", "prompt", "eval_name"}), _routerbench),
        Form(
            "llmrouterbench",
            frozenset({"dataset_name", "model_name", "index", "origin_query", "score"}),
            _llmrouterbench,
            "A cost of 0 is taken as unknown.",
        ),
        Form(
            "routerarena",
            frozenset({"global_index", "question", "llm_selected", "evaluation_result"}),
            _routerarena,
        ),
        Form(
            "llmrouter",
            frozenset({"task_name", "query", "model_name", "performance"}),
            _llmrouter,
            "It tells no costs; with --prices they follow from the tokens.",
        ),
        Form(
            "graphrouter",
            frozenset({"task_id", "query", "llm", "effect"}),
            _graphrouter,
            "Its costs are scaled to [0, 1] task by task and no dollars, so they are left out.",
        ),
    )
}


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        raise ValueError(f"must be text, got {value!r}")
    return str(value)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode(errors="replace")).hexdigest()[:16]


def _score(value: Any, column: str) -> float | None:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    return float(value) if isinstance(value, bool) else _number(value, column)


def _number(value: Any, column: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{column} must be a number, got {value!r}") from None
    # What was written as a table by pandas has NaN for what is absent.
    return None if number != number else number
