"""Samples turns of a driver with transformers: left-padded, to the tag that ends the turn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from experts.compose.rounds.grammar import Words
from routers.rounds.episodes import Tokens
from routers.rounds.extra import needs


def sample_turns(
    model: Any,
    tokenizer: Any,
    prefixes: Sequence[Tokens],
    words: Words,
    *,
    max_new_tokens: int,
    temperature: float,
) -> list[Tokens]:
    """The tokens that follow each prefix, the closing tag included.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        prefixes: What was said so far.
        words: How the tags are called.
        max_new_tokens: Longest turn.
        temperature: 0 takes the likeliest token each time.
    """
    torch = needs("torch")
    longest = max(len(prefix) for prefix in prefixes)
    pad = tokenizer.pad_token_id
    padded = [[pad] * (longest - len(prefix)) + list(prefix) for prefix in prefixes]
    seen = [[0] * (longest - len(prefix)) + [1] * len(prefix) for prefix in prefixes]
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    ends, stops = _ends(tokenizer, words)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        whole = model.generate(
            input_ids=torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(seen, device=model.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=sorted(ends),
            **(drawn if temperature > 0 else {"do_sample": False}),
            **({"stop_strings": stops, "tokenizer": tokenizer} if stops else {}),
        )
    model.train(was_training)
    return [_turn(tokens, ends, pad) for tokens in whole[:, longest:].tolist()]


def _ends(tokenizer: Any, words: Words) -> tuple[set[int], list[str]]:
    """Tokens that end a turn, and texts that do where these are no single tokens."""
    ends = {tokenizer.eos_token_id}
    stops = []
    for stop in words.stops:
        tokens = tokenizer.encode(stop, add_special_tokens=False)
        if len(tokens) == 1:
            ends.add(tokens[0])
        else:
            stops.append(stop)
    return ends, stops


def _turn(tokens: Tokens, ends: Collection[int], pad: int) -> Tokens:
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
        if token == pad:
            return tokens[:place]
    return tokens
