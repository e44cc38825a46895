"""What is known of an expert before it answers: prices, limits, abilities, the prompt it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from experts.messages import Usage

NANO_PER_USD = 1_000_000_000
Location = Literal["", "device", "edge", "cloud"]
LOCATIONS: tuple[Location, ...] = ("device", "edge", "cloud", "")
"""Nearest first; who does not say where is taken to be farthest."""
Privacy = Literal["public", "internal", "private"]
PRIVACY: tuple[Privacy, ...] = ("public", "internal", "private")
"""Classes of data, the most open first."""
_NANO_PER_MICRO = 1_000


def strictest(*classes: Privacy) -> Privacy:
    """The most confidential of several classes of data; without any, public."""
    return max(classes, key=PRIVACY.index, default="public")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a call costs, in US dollars per million tokens (and per request).

    Attributes:
        input: Prompt tokens read afresh.
        output: Tokens written, hidden reasoning included.
        cache_read: Prompt tokens the provider had cached; None means the `input` price.
        cache_write: Prompt tokens put into the cache; None means the `input` price.
        request: Flat dollars per call.
        source: Where the figures come from and of which day, for people.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    request: float = 0.0
    source: str = "config"

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write", "request"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"price {name!r} must be a finite number >= 0, got {value!r}")

    def cost_nanousd(self, usage: Usage) -> int:
        """Dollars times 1e9 for `usage`, rounded once, half to even."""
        return self.cost_of(
            usage.input, usage.cache_read, usage.cache_write, usage.completion_tokens
        )

    def cost_of(self, fresh: int, cache_read: int, cache_write: int, written: int) -> int:
        """`cost_nanousd` by numbers of tokens: read afresh, from cache, into it; written."""
        read_price = self.input if self.cache_read is None else self.cache_read
        write_price = self.input if self.cache_write is None else self.cache_write
        micro_usd = (
            fresh * self.input
            + cache_read * read_price
            + cache_write * write_price
            + written * self.output
        )
        return round(micro_usd * _NANO_PER_MICRO + self.request * NANO_PER_USD)

    def expected_usd(self, prompt_tokens: float, output_tokens: float) -> float:
        """Dollars for a call of that size, nothing cached: what a policy weighs."""
        return (prompt_tokens * self.input + output_tokens * self.output) / 1e6 + self.request


@dataclass(frozen=True, slots=True)
class FewShotPrompt:
    """How to ask a base model, which continues text instead of answering.

    Rendered as `preamble`, then each example, then the question, in the same form; the model is
    stopped where it would start the next question.
    """

    preamble: str
    examples: tuple[tuple[str, str], ...]
    question_prefix: str = "Q: "
    answer_prefix: str = "A:"
    stop: tuple[str, ...] = ("\nQ:", "\n\n")

    def render(self, question: str, earlier: tuple[tuple[str, str], ...] = ()) -> str:
        """The text to continue; `earlier` turns of the conversation follow the examples."""
        shown = [f"{self._ask(asked)} {answer}" for asked, answer in (*self.examples, *earlier)]
        return "\n\n".join([self.preamble, *shown, self._ask(question)])

    def _ask(self, question: str) -> str:
        return f"{self.question_prefix}{question}\n{self.answer_prefix}"


@dataclass(frozen=True, slots=True)
class Caps:
    """What one call of a composition may come to, all calls below it included; None is no bound.

    Attributes:
        usd: Dollars. A call that could go beyond what is left is bounded by `max_tokens` or not
            made.
        calls: Calls of models; those of compositions count as theirs.
        seconds: From when it began. Calls under way are ended then.
    """

    usd: float | None = None
    calls: int | None = None
    seconds: float | None = None


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class ExpertCard:
    """Everything a router may know of an expert that is not learned.

    Attributes:
        expert_id: The name that requests, tables and headers use.
        description: One sentence for people.
        prices: None means unknown: flagged in the ledger, weighed as the dearest of the pool.
        context_tokens: Prompt and answer together; None means no known limit.
        max_output_tokens: Longest answer; None means no known limit.
        modalities: What it can read, a subset of {"text", "image", "audio", "file"}; None: text,
            and nobody knows what else.
        tools: Whether it can call tools; None: nobody knows.
        structured_output: Whether it honours `response_format`; None: nobody knows.
        prefill: Whether it goes on with a last assistant message instead of answering it (vLLM's
            `continue_final_message`).
        local: Whether it runs on our machines.
        location: Where it runs: on this device, at the edge, in a cloud; "" when unknown.
        rtt_s: Seconds of the way there and back: the least that an answer can take.
        privacy: The most confidential class of data that it may be sent.
        quality_prior: Guess of its quality in [0, 1] until outcomes say more.
        params_active_b: Parameters used per token, in billions; None when unknown.
        params_total_b: Parameters held in memory, in billions; None when unknown.
        released: ISO date of release, "" when unknown.
        tags: Free labels, e.g. {"region": "eu"}.
        prompt: The few-shot prompt of a base model; None for one that chats.
        composed: Whether it answers by asking others: then its own calls cost nothing, and `prices`
            are what all calls below it are expected to cost together.
        members: The cards of everyone it asks, without those that members of it ask.
        least: What the cheapest way through a composition costs; a cap can hold it to that.
        caps: What one call of a composition may come to.
        api: What it is asked for: answers to conversations, prompts continued, or vectors.
        params: What becomes of request fields that are not OpenAI's: they go through, the request
            is refused, or they are taken out and named in the answer's headers.
        wire: Whose wire format it speaks, which says what fields it knows.
        params_allow: Further fields that it takes, whatever `params` says.
        space: What its vectors can be compared within, for one that embeds: its model's name.
        media_urls: Which URLs of images and other media it may be sent: `any`, those of `public`
            hosts, or only `data` URLs, which hold what they name.
    """

    expert_id: str
    description: str = ""
    prices: Prices | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    modalities: frozenset[str] | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    prefill: bool = False
    local: bool = False
    location: Location = ""
    rtt_s: float = 0.0
    privacy: Privacy = "public"
    quality_prior: float = 0.5
    params_active_b: float | None = None
    params_total_b: float | None = None
    released: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    prompt: FewShotPrompt | None = None
    composed: bool = False
    members: tuple[ExpertCard, ...] = ()
    least: Prices | None = None
    caps: Caps = NO_CAPS
    api: Literal["chat", "completions", "embeddings"] = "chat"
    params: Literal["pass", "strict", "drop"] = "pass"
    params_allow: frozenset[str] = frozenset()
    media_urls: Literal["any", "public", "data"] = "public"
    wire: Literal["openai", "anthropic"] = "openai"
    space: str = ""

    @property
    def takes_raw_prompts(self) -> bool:
        """Whether it continues a text as it is, without a conversation around it."""
        return self.api == "completions" or self.prompt is not None

    @property
    def leaves(self) -> tuple[ExpertCard, ...]:
        """The cards of the models behind it, each once; a model's own."""
        if not self.members:
            return (self,)
        below = (leaf for member in self.members for leaf in member.leaves)
        return tuple({leaf.expert_id: leaf for leaf in below}.values())

    @property
    def reaches(self) -> frozenset[str]:
        """The ids of all whom a call to it may come to ask, its own included."""
        return frozenset({self.expert_id}).union(*(member.reaches for member in self.members))

    def clears(self, privacy: Privacy) -> bool:
        """Whether data of that class may be sent to it."""
        return PRIVACY.index(self.privacy) >= PRIVACY.index(privacy)

    def __post_init__(self) -> None:
        if not self.expert_id:
            raise ValueError("an expert needs an id")
        if not 0 <= self.quality_prior <= 1:
            raise ValueError(f"quality_prior must be in [0, 1], got {self.quality_prior!r}")
