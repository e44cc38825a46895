"""A policy of a million parameters that speaks the words of the small world, and no other."""

from __future__ import annotations

from typing import Any

from eval.rounds.world import words
from experts.compose.rounds.grammar import PUBLISHED
from routers.rounds.extra import needs

_WORD = r"</?\w+>|\w+|[^\w\s]"
_JOINED = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
_SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}


def small_tokenizer() -> Any:
    """One token per word; case and spacing don't matter. A chat is what was said."""
    tokenizers, transformers = needs("tokenizers"), needs("transformers")
    ids = {word: place for place, word in enumerate([*_SPECIAL.values(), *words()])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, _SPECIAL["unk_token"]))
    made.normalizer = tokenizers.normalizers.Lowercase()
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_WORD), "removed", invert=True)
    made.pre_tokenizer = split
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=_JOINED, padding_side="left", **_SPECIAL
    )


def small_policy(tokenizer: Any, seed: int, width: int = 160, layers: int = 3) -> Any:
    """A Llama with random weights."""
    torch, transformers = needs("torch"), needs("transformers")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        # Learns to copy words within a hundred steps; at the usual .02 it takes a thousand.
        initializer_range=0.06,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    # Whoever serves it need not be told where a turn ends.
    stops = tokenizer.convert_tokens_to_ids(list(PUBLISHED.stops))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *stops]
    return model
