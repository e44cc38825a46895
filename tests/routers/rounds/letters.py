"""A tokenizer of one token per letter, a pool that echoes, a policy that follows a script."""

from __future__ import annotations

from collections.abc import Sequence

from routers.rounds.episodes import PaidReply, Question, Tokens
from routers.rounds.reward import Paid


class Letters:
    """One token per letter."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Tokens:
        return [ord(letter) for letter in text]

    def decode(self, token_ids: Tokens, *, skip_special_tokens: bool) -> str:
        return "".join(chr(token) for token in token_ids)


class Echo:
    """Says back what it is asked; "fail" fails."""

    experts = ("small", "large")

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    def ask(self, questions: Sequence[Question]) -> list[PaidReply | None]:
        self.asked.append([(each.expert, each.query) for each in questions])
        return [
            None
            if each.query == "fail"
            else PaidReply(f"{each.query}!", Paid(len(each.query), 1.0))
            for each in questions
        ]


class Scripted:
    """Goes on with the next text of the script that belongs to a prompt."""

    def __init__(self, scripts: dict[str, list[str]]) -> None:
        self.scripts = {prompt: list(script) for prompt, script in scripts.items()}
        self.prefixes: list[str] = []

    def __call__(self, prefixes: Sequence[Tokens]) -> list[Tokens]:
        texts = [Letters().decode(prefix, skip_special_tokens=True) for prefix in prefixes]
        self.prefixes += texts
        prompts = [next(p for p in self.scripts if text.startswith(p)) for text in texts]
        return [
            Letters().encode(self.scripts[prompt].pop(0), add_special_tokens=False)
            for prompt in prompts
        ]
