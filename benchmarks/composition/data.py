"""The pools that compositions are measured on: recorded answers or samples, and their prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.compositions.drafts import DraftTable, read_drafts
from eval.compositions.world import CompositionWorld, make_world
from eval.tables.prices import read_prices
from eval.tables.sources import read_outcomes
from experts.cards import Prices
from routers.estimators.folds import group_folds, others
from routers.records import OutcomeTable

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"

MOT_PRICES = {
    "gpt-3.5-turbo": Prices(1.5, 2.0),
    "gpt-4": Prices(30.0, 60.0),
    "llama-2-13b": Prices(0.3, 0.3),
}
"""Dollars per million tokens: gpt-4-0613 and gpt-3.5-turbo-0613 of prices.csv, and its tier of
8 to 21 billion parameters for Llama."""
_ROUTERBENCH = (
    "WizardLM/WizardLM-13B-V1.2", "claude-instant-v1", "gpt-3.5-turbo-1106", "gpt-4-1106-preview",
    "meta/llama-2-70b-chat", "mistralai/mistral-7b-chat", "mistralai/mixtral-8x7b-chat",
    "zero-one-ai/Yi-34B-Chat",
)  # fmt: skip
_BFCL = (
    "claude-3-5-sonnet-20240620", "gemini-1.5-flash-preview-0514", "gpt-3.5-turbo-0125-FC",
    "gpt-4o-2024-08-06-FC", "gpt-4o-mini-2024-07-18", "meetkai_functionary-medium-v3.1-FC",
    "meetkai_functionary-small-v3.2-FC", "open-mistral-nemo-2407-FC-Auto",
)  # fmt: skip
_MMLU_PRO = (
    "Meta-Llama-3-70B", "Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct",
    "Phi-3-mini-4k-instruct", "Qwen1.5-72B-Chat", "gemini-1.5-flash-002", "gemini-1.5-pro-002",
    "mathstral-7B",
)  # fmt: skip
_LLMROUTER = (
    "codegemma-7b", "gemma-2-9b-it", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct",
    "llama-3.3-nemotron-super-49b-v1", "mistral-7b-instruct-v0.3", "qwen2.5-7b-instruct",
)  # fmt: skip
_SEVEN_B = (
    "HuggingFaceH4/zephyr-7b-beta", "cognitivecomputations/dolphin-2.6-mistral-7b",
    "cognitivecomputations/dolphin-2.9-llama3-8b", "itpossible/Chinese-Mistral-7B-v0.1",
    "meta-llama/Meta-Llama-3-8B", "meta-math/MetaMath-Mistral-7B", "mistralai/Mistral-7B-v0.1",
)  # fmt: skip
_MOT = (
    "gpt-4[cot2]", "gpt-4[greedy_cot1]", "gpt-4[pot1]", "llama-2-13b[pot1]", "llama-2-13b[pot2]",
)  # fmt: skip
_DATE = (
    "gpt-3.5-turbo[cot2]", "gpt-3.5-turbo[pot1]", "gpt-4[cot2]", "gpt-4[greedy_cot2]",
    "gpt-4[pot1]", "llama-2-13b[cot1]", "llama-2-13b[pot2]",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """One set of recorded answers.

    Attributes:
        file: Its file.
        experts: The pool: experts with known costs, none of them made of another.
        tasks: Only these; None: all.
        calls: Whether answers are calls of tools.
        wrong_alike: See `make_world`.
        listed: Whether the file holds neither costs nor the length of answers, so that a request
            costs what its prompt does by the price list.
        most: Only so many rows, drawn; None: all.
    """

    file: str
    experts: tuple[str, ...]
    tasks: tuple[str, ...] | None = None
    calls: bool = False
    wrong_alike: float | None = None
    listed: bool = False
    most: int | None = None


SETS = {
    "routellm": Named(
        "routellm", ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"), ("gsm8k",)
    ),
    "routellm_all": Named(
        "routellm",
        ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        wrong_alike=0.5,
    ),
    "routerbench": Named("routerbench_slice", _ROUTERBENCH),
    "bfcl": Named("bfcl", _BFCL, calls=True),
    "mot": Named("mot_cascade", _MOT),
    "mmlu_pro": Named("mmlu_pro", _MMLU_PRO, wrong_alike=0.5),
    "date": Named("mot_cascade", _DATE, ("date",)),
    "llmrouter": Named("llmrouter", _LLMROUTER, wrong_alike=0.5, listed=True),
    "routerdc7b": Named("routerdc7b", _SEVEN_B, wrong_alike=0.5, listed=True, most=6000),
}

Part = tuple[OutcomeTable, DraftTable]


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A set as it was read, its `train` and `dev` rows apart."""

    named: Named
    table: OutcomeTable
    drafts: DraftTable
    train: tuple[int, ...]
    dev: tuple[int, ...]

    def part(self, rows: Sequence[int]) -> Part:
        """Some of its rows."""
        columns = list(range(len(self.table.experts)))
        taken = self.table.take(np.array(rows, dtype=np.intp))
        return taken, self.drafts.take(list(rows), columns)

    def world(self, seed: int = 0) -> CompositionWorld:
        """Learned from `train`, to be judged by `dev`."""
        return self._world(self.train, self.dev, seed)

    def crossed(self, folds: int = 5, seed: int = 0) -> list[CompositionWorld]:
        """One world per fold of all rows, each judged by what the others did not learn from."""
        rows = np.array(sorted({*self.train, *self.dev}))
        groups = [self.table.groups[row] for row in rows]
        found = []
        for held in group_folds(groups, folds, np.random.default_rng(seed)):
            kept = others(held, len(rows))
            found.append(self._world(rows[kept].tolist(), rows[held].tolist(), seed))
        return found

    def halves(self, times: int = 3, seed: int = 0) -> Iterator[CompositionWorld]:
        """Random halves of `train`, each learned from and judged by the other."""
        groups = [self.table.groups[row] for row in self.train]
        rows, rng = np.array(self.train), np.random.default_rng(seed)
        for _ in range(times):
            one, other = group_folds(groups, 2, rng)
            for known, new in ((one, other), (other, one)):
                yield self._world(rows[known].tolist(), rows[new].tolist(), seed)

    def _world(self, train: Sequence[int], dev: Sequence[int], seed: int) -> CompositionWorld:
        parts = self.part(train), self.part(dev)
        return make_world(
            *parts,
            self.named.experts,
            seed=seed,
            calls=self.named.calls,
            wrong_alike=self.named.wrong_alike,
        )


def recorded(named: Named, *, prompt_once: bool = False) -> Recorded:
    """Read a set. Training rows whose group is in `dev` are left out.

    Args:
        named: Which.
        prompt_once: Whether samples of one question share one prompt on the bill, as `n` of an
            OpenAI request does; else each is a call of its own.
    """
    path = DATA / f"{named.file}.parquet"
    outcomes = read_outcomes(path)
    table, splits = outcomes.table, outcomes.splits
    drafts = read_drafts(path, table)
    if named.file == "mot_cascade":
        table = _priced(table, drafts, prompt_once=prompt_once)
    if named.listed:
        table = _by_prompt(table)
    wanted = [named.tasks is None or task in named.tasks for task in table.tasks]
    if named.most:
        drawn = set(np.random.default_rng(0).permutation(len(table))[: named.most].tolist())
        wanted = [row in drawn for row in range(len(table))]
    dev = [row for row, split in enumerate(splits) if split == "dev" and wanted[row]]
    shared = {table.groups[row] for row in dev}
    train = [
        row
        for row, split in enumerate(splits)
        if split == "train" and wanted[row] and table.groups[row] not in shared
    ]
    return Recorded(named, table, drafts, tuple(train), tuple(dev))


def _priced(table: OutcomeTable, drafts: DraftTable, *, prompt_once: bool) -> OutcomeTable:
    """Dollars of all samples of a question; the file has tokens of one, and no costs."""
    cost_NA = np.full(table.score_NA.shape, np.nan)
    for column, expert in enumerate(table.experts):
        price = MOT_PRICES[expert.split("[")[0]]
        samples_N = drafts.samples_NA[:, column]
        prompts_N = np.where(np.isnan(samples_N), np.nan, 1.0) if prompt_once else samples_N
        read_N = table.prompt_tokens_NA[:, column] * prompts_N
        written_N = table.output_tokens_NA[:, column] * samples_N
        cost_NA[:, column] = (read_N * price.input + written_N * price.output) / 1e6
    tokens_NA = table.output_tokens_NA * drafts.samples_NA
    return replace(table, cost_usd_NA=cost_NA, output_tokens_NA=tokens_NA)


def _by_prompt(table: OutcomeTable) -> OutcomeTable:
    prices = read_prices(DATA / "prices.csv")
    input_A = np.array([prices[expert].input if expert in prices else np.nan
                        for expert in table.experts])  # fmt: skip
    return replace(table, cost_usd_NA=table.prompt_tokens_NA * input_A / 1e6)
