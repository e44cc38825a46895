"""Asks experts through the endpoint, grades their answers and books the grades."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

import anyio
import httpx2
import orjson

from eval.errors import GraderConfigError
from eval.graders.base import Check
from eval.graders.checks import grade, parse_check
from experts.http.connecting import bearer
from gateway.errors import ConfigError
from gateway.ledger.export import CONFIDENCE, BookedAnswer
from gateway.settings.references import means_router

_TIMEOUT = httpx2.Timeout(180.0, connect=5.0)
_GIVEN_UP = 20
"""Failures in a row after which a model is asked no more: each may take as long as an answer."""

Pair = tuple[str, str]
"""A query id and whom it is put to."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of a prompts file.

    Attributes:
        query_id: Unique in its file.
        text: The user's message.
        task: Which kind it is, None unknown.
        split: Which part of the data it belongs to, None unsaid.
        check: What a right answer is; None leaves answers unscored.
    """

    query_id: str
    text: str
    task: str | None
    split: str | None
    check: Check | None


@dataclass(frozen=True, slots=True)
class Collected:
    """Answers gathered.

    Attributes:
        rows: One per answer, in the outcome table's columns, with `response` and `decision_id`; in
            the order of the prompts.
        failures: One sentence per call that gave no answer.
        kept: Pairs that were known and so not asked.
    """

    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    kept: int = 0


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read a JSONL file of prompts.

    Raises:
        ConfigError: The file, the line and the field that is wrong.
    """
    try:
        # Bytes, since JSON's text may hold what only text takes for the end of a line.
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
    prompts = tuple(
        _prompt(line, f"'{path}' line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not prompts:
        raise ConfigError(f"'{path}' holds no prompts")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.query_id in seen:
            raise ConfigError(f"'{path}': query_id {prompt.query_id!r} is given twice")
        seen.add(prompt.query_id)
    return prompts


def _prompt(line: bytes, where: str) -> Prompt:
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be an object")
    for name in ("query_id", "prompt"):
        if not isinstance(data.get(name), str) or not data[name].strip():
            raise ConfigError(f"{where}: {name} must be a non-empty string")
    for name in ("task", "split"):
        if not isinstance(data.get(name), str | None):
            raise ConfigError(f"{where}: {name} must be a string")
    try:
        check = parse_check(data["check"]) if data.get("check") else None
    except GraderConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Prompt(data["query_id"], data["prompt"], data.get("task"), data.get("split"), check)


@dataclass(frozen=True, slots=True)
class Collecting:
    """How a collection is asked for.

    Attributes:
        url: The gateway, without `/v1`.
        key: API key, None where none is needed.
        max_tokens: Longest answer asked for.
        concurrency: Requests under way per model.
        tags: Put on every request, so that the ledger can tell this collection from others.
        logprobs: Ask for log-probabilities, and note the mean over each answer as `nll`, in the
            ledger as its objective `CONFIDENCE`.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    max_tokens: int = 256
    concurrency: int = 2
    tags: Mapping[str, str] = field(default_factory=dict)
    logprobs: bool = False


class Collector:
    """Sends prompts to one gateway, several at a time per model.

    Args:
        how: Where, and what is asked for.
        on_answer: Told the model after each finished call.
        known: Pairs of query id and model that are not to be asked again.
    """

    def __init__(
        self,
        how: Collecting,
        *,
        on_answer: Callable[[str], None] | None = None,
        known: frozenset[Pair] = frozenset(),
    ) -> None:
        self._how = how
        self._on_answer = on_answer or (lambda _model: None)
        self._known = known
        self._kept = 0
        self._rows: list[dict[str, Any]] = []
        self._failures: list[str] = []
        self._in_a_row = defaultdict[str, list[str]](list)

    async def collect(self, prompts: Sequence[Prompt], models: Sequence[str]) -> Collected:
        """Ask every model every prompt, grade, send the grades as feedback.

        Who has failed too often in a row is left out of the rest, and each prompt says so.
        """
        async with self._client() as client, anyio.create_task_group() as tasks:
            for model in models:
                queue = iter(prompts)
                for _ in range(self._how.concurrency):
                    tasks.start_soon(self._work, client, model, queue)
        return collected(self._rows, self._failures, self._kept, prompts)

    async def settle(
        self, prompts: Sequence[Prompt], answers: Mapping[Pair, BookedAnswer]
    ) -> frozenset[Pair]:
        """Grade the answers whose grades are not booked, as when a collection was killed.

        Args:
            prompts: What was asked.
            answers: What is booked of it.

        Returns:
            The pairs that need not be asked again: all but those whose answers were not kept.

        Raises:
            ConfigError: The gateway takes no grades.
        """
        checked = {prompt.query_id: prompt for prompt in prompts if prompt.check is not None}
        done = []
        async with self._client() as client:
            for pair, answer in answers.items():
                if pair[0] in checked and not answer.scored:
                    if answer.text is None:
                        continue
                    try:
                        await self._score(client, checked[pair[0]], answer.decision_id, answer.text)
                    except (httpx2.HTTPError, _RefusedError) as error:
                        raise ConfigError(f"{self._how.url} takes no grades: {error}") from error
                done.append(pair)
        return frozenset(done)

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self._how.url, headers=bearer(self._how.key), timeout=_TIMEOUT, trust_env=False
        )

    async def _work(self, client: httpx2.AsyncClient, model: str, queue: Any) -> None:
        for prompt in queue:
            if (prompt.query_id, model) in self._known:
                self._kept += 1
            elif len(failed := self._in_a_row[model]) >= _GIVEN_UP:
                why = f"not asked, since {len(failed)} calls in a row had failed: {failed[-1]}"
                self._failures.append(f"{prompt.query_id} to {model}: {why}")
            else:
                await self._try(client, model, prompt)
            self._on_answer(model)

    async def _try(self, client: httpx2.AsyncClient, model: str, prompt: Prompt) -> None:
        try:
            self._rows.append(await self._ask(client, model, prompt))
            self._in_a_row[model].clear()
        except (httpx2.HTTPError, _RefusedError) as error:
            what = str(error) or type(error).__name__
            self._failures.append(f"{prompt.query_id} to {model}: {what}")
            self._in_a_row[model].append(what)

    async def _ask(self, client: httpx2.AsyncClient, model: str, prompt: Prompt) -> dict[str, Any]:
        answer = await _post(client, "/v1/chat/completions", self._body(model, prompt))
        data = answer.json()
        text = data["choices"][0]["message"]["content"] or ""
        decision_id = answer.headers["x-pointsman-decision-id"]
        cost = answer.headers["x-pointsman-cost-usd"]
        nll = _nll(data["choices"][0]) if self._how.logprobs else None
        if nll is not None:
            told = {"score": exp(-nll), "objective": CONFIDENCE, "source": "collect"}
            await _post(client, "/v1/feedback", {"decision_id": decision_id, **told})
        return {
            "query_id": prompt.query_id,
            "task": prompt.task,
            "prompt": prompt.text,
            "model": answer.headers["x-pointsman-expert"],
            "score": await self._score(client, prompt, decision_id, text),
            "prompt_tokens": data["usage"]["prompt_tokens"],
            "completion_tokens": data["usage"]["completion_tokens"],
            "cost_usd": None if cost == "unknown" else float(cost),
            "latency_s": answer.elapsed.total_seconds(),
            "split": prompt.split,
            "response": text,
            "decision_id": decision_id,
            **({"nll": nll} if self._how.logprobs else {}),
        }

    def _body(self, model: str, prompt: Prompt) -> dict[str, Any]:
        tags = {"query_id": prompt.query_id, **self._how.tags}
        for name in ("task", "split"):
            if (value := getattr(prompt, name)) is not None:
                tags[name] = value
        return {
            "model": model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": self._how.max_tokens,
            "temperature": 0,
            **({"logprobs": True} if self._how.logprobs else {}),
            # A kept answer would teach nothing: it is nobody's draw. Nor would that of a fallback.
            "pointsman": {"tags": tags, "cache": "off", "keep": "full", **_nobody_else(model)},
        }

    async def _score(
        self, client: httpx2.AsyncClient, prompt: Prompt, decision_id: str, text: str
    ) -> float | None:
        if prompt.check is None:
            return None
        verdict = grade(prompt.check, text)
        if verdict.score is not None:
            body = {
                "decision_id": decision_id,
                "score": verdict.score,
                "source": f"grader:{prompt.check.kind}",
                "comment": verdict.reason,
            }
            await _post(client, "/v1/feedback", body)
        return verdict.score


def collected(
    rows: Sequence[dict[str, Any]], failures: Sequence[str], kept: int, prompts: Sequence[Prompt]
) -> Collected:
    """What was gathered, in the order of the prompts and not of who answered first."""
    order = {prompt.query_id: place for place, prompt in enumerate(prompts)}
    rows = sorted(rows, key=lambda row: (order[row["query_id"]], row["model"]))
    return Collected(tuple(rows), tuple(sorted(failures)), kept)


def _nobody_else(model: str) -> Mapping[str, Any]:
    """Lets nobody stand in for an expert that is asked by its name."""
    # RouteLLM's clients write `router-NAME-THRESHOLD`.
    routed = means_router(model) or model.startswith("router-")
    return {} if routed else {"experts": [model]}


def _nll(choice: Mapping[str, Any]) -> float | None:
    """Mean negative log-probability of a choice's tokens in nats; None where none were given."""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    said = [float(token["logprob"]) for token in tokens]
    return max(0.0, -sum(said) / len(said)) if said else None


class _RefusedError(Exception):
    """The gateway answered with an error."""


async def _post(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> httpx2.Response:
    answer = await client.post(path, json=body)
    if answer.status_code != 200:
        try:
            said = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            said = answer.text[:200]
        raise _RefusedError(f"status {answer.status_code}: {said}")
    return answer
