"""Records to ledger rows: the only place that knows both. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from sqlalchemy import Table

from experts.cards import ExpertCard, Prices
from experts.messages import Json, Usage
from gateway.ids import now
from gateway.ledger import tables
from routers.records import Candidates, Decision, Floats, Preference


class Row(NamedTuple):
    """One row to insert. `once` rows carry a content hash as key and may exist already."""

    table: Table
    values: Mapping[str, Any]
    once: bool = False


def decision_row(decision_id: str, request_id: str, at: float, decision: Decision) -> Row:
    """A decision with all that it weighed; `decision_of` is the inverse.

    Arrays stay arrays and the preference a record: whoever writes the row makes them JSON
    (`json_text`), off the event loop.
    """
    candidates = decision.candidates
    values = {
        "decision_id": decision_id,
        "request_id": request_id,
        "at": at,
        "router": decision.router,
        "version": decision.version,
        "policy": decision.policy,
        "preference": decision.preference,
        "candidates": {
            "experts": candidates.experts,
            "quality": candidates.quality_A,
            "stderr": candidates.stderr_A,
            "cost_usd": candidates.cost_usd_A,
            "latency_s": candidates.latency_s_A,
            "output_tokens": candidates.output_tokens_A,
            "penalty": candidates.penalty_A,
            "utility": decision.utility_A,
            "probability": decision.probabilities_A,
            "cost_scale_usd": candidates.cost_scale_usd,
            "latency_scale_s": candidates.latency_scale_s,
        },
        "excluded": decision.excluded,
        "draw": decision.draw,
        "expert_id": decision.expert,
        "propensity": decision.propensity,
        "flags": decision.flags,
    }
    return Row(tables.decision, values)


def decision_of(values: Mapping[str, Any]) -> Decision:
    """A decision from its row, to be explained or drawn again."""
    weighed = values["candidates"]
    candidates = Candidates(
        experts=tuple(weighed["experts"]),
        quality_A=_array(weighed["quality"]),
        stderr_A=_array(weighed["stderr"]),
        cost_usd_A=_array(weighed["cost_usd"]),
        latency_s_A=_array(weighed["latency_s"]),
        output_tokens_A=_array(weighed["output_tokens"]),
        penalty_A=_array(weighed["penalty"]),
        cost_scale_usd=_float(weighed["cost_scale_usd"]),
        latency_scale_s=_float(weighed["latency_scale_s"]),
    )
    return Decision(
        router=values["router"],
        version=values["version"],
        policy=values["policy"],
        preference=Preference(**values["preference"]),
        candidates=candidates,
        excluded=values["excluded"],
        utility_A=_array(weighed["utility"]),
        probabilities_A=_array(weighed["probability"]),
        draw=values["draw"],
        chosen=weighed["experts"].index(values["expert_id"]),
        flags=tuple(values["flags"]),
    )


def candidates_of(decision: Decision) -> list[dict[str, Any]]:
    """Everyone that was weighed, as people and programs get to see it; None is unknown."""
    weighed = decision.candidates
    columns = {
        "expert": list(weighed.experts),
        "quality": numbers(weighed.quality_A),
        "quality_stderr": numbers(weighed.stderr_A),
        "cost_usd": numbers(weighed.cost_usd_A),
        "latency_s": numbers(weighed.latency_s_A),
        "output_tokens": numbers(weighed.output_tokens_A),
        "penalty": numbers(weighed.penalty_A),
        "utility": numbers(decision.utility_A),
        "probability": numbers(decision.probabilities_A),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _array(values: list[float | None]) -> Floats:
    return np.array([_float(value) for value in values], dtype=np.float64)


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


def card_row(card: ExpertCard, at: float) -> Row:
    """A card, once per content."""
    content = plain(card)
    values = {"card_id": digest(content), "at": at, "expert_id": card.expert_id, "card": content}
    return Row(tables.expert_card, values, once=True)


@lru_cache(maxsize=4096)
def price_row(expert_id: str, prices: Prices) -> Row:
    """A price snapshot, once per content: a changed price is another row."""
    content = plain(prices)
    key = {"price_id": digest([expert_id, content]), "at": now(), "expert_id": expert_id}
    return Row(tables.price, {**key, **content}, once=True)


def trace_rows(attempt_id: str, trace: Iterable[Json], at: float, mode: str) -> Iterator[Row]:
    """What a composition left of its way to the answer; texts as far as `ledger.text` keeps them.

    Whatever people or models wrote stands in a record's `text`, by names of its own.
    """
    for ordinal, told in enumerate(trace):
        texts = {name: kept_text(text, mode) for name, text in told.get("text", {}).items()}
        kept = {name: text.replace("\0", "\N{REPLACEMENT CHARACTER}")
                for name, text in texts.items() if text is not None}  # fmt: skip
        values = {
            "attempt_id": attempt_id,
            "ordinal": ordinal,
            "at": at,
            "record": {name: value for name, value in told.items() if name != "text"},
            "text": kept or None,
        }
        yield Row(tables.attempt_trace, values)


def token_columns(usage: Usage | None) -> Mapping[str, int | bool | None]:
    """The disjoint token vector; NULL where nothing was counted."""
    if usage is None:
        return _NOTHING_COUNTED
    return {
        "input_tokens": usage.input,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "output_tokens": usage.output,
        "reasoning_tokens": usage.reasoning,
        "tokens_estimated": usage.estimated,
    }


_NOTHING_COUNTED: Mapping[str, int | bool | None] = {
    "input_tokens": None,
    "cache_read_tokens": None,
    "cache_write_tokens": None,
    "output_tokens": None,
    "reasoning_tokens": None,
    "tokens_estimated": False,
}


def kept_text(text: str, mode: str) -> str | None:
    """What the ledger keeps of a prompt or an answer under `ledger.text`."""
    if mode == "full":
        return text
    return redacted(text) if mode == "redacted" else None


def prompt_digest(text: str, mode: str) -> str | None:
    """SHA-256 of a prompt, unless nothing of it may be kept."""
    if mode == "none":
        return None
    return hashlib.sha256(text.encode()).hexdigest()


_PRIVATE = (
    # Tried where a word begins only: at every letter, a megabyte of one word would take an hour.
    (re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+"), "[email]"),
    (re.compile(r"\b(?:sk|pk|ghp|xox[a-z])[-_][\w-]{8,}"), "[secret]"),
    (re.compile(r"\+?\d[\d ()/-]{7,}\d"), "[number]"),
)


def redacted(text: str) -> str:
    """`text` without e-mail addresses, keys and long numbers (phones, cards, accounts)."""
    for pattern, label in _PRIVATE:
        text = pattern.sub(label, text)
    return text


def numbers(values: Floats) -> list[float | None]:
    """An array as JSON: NaN, which JSON has not, becomes null."""
    return [value if value == value else None for value in values.tolist()]


def json_text(content: Any) -> str:
    """JSON of a row's column; arrays, mappings of any kind and records too; NaN becomes null."""
    if not content:
        # Most requests have no tags and most decisions no flags.
        return _EMPTY.get(type(content)) or orjson.dumps(content).decode()
    return orjson.dumps(content, _listed, orjson.OPT_SERIALIZE_NUMPY).decode()


_EMPTY: Mapping[type, str] = {dict: "{}", tuple: "[]", list: "[]"}


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # One that is not contiguous in memory.
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def plain(record: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON-able data with sets in a fixed order."""
    data: dict[str, Any] = orjson.loads(orjson.dumps(asdict(record), default=_sorted_set))
    return data


def digest(content: Any) -> str:
    """SHA-256 of JSON-able content, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _sorted_set(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)
