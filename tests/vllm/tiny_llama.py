"""A Llama of a few hundred thousand random weights, and LoRA adapters for it, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HIDDEN, LAYERS, HEADS, INNER, CONTEXT = 64, 2, 2, 128, 1024
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
BLANKS = {str(LETTERS.index(letter)): -100 for letter in "ĠĊĉč"}
"""As `logit_bias`: no blanks but where nothing else fits, or it fills its JSON with them."""
SPECIAL = ("<|begin|>", "<|end|>", "<|pad|>")
VOCABULARY = 256 + len(SPECIAL)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "assistant:"
)


def make_model(folder: Path, seed: int = 0) -> Path:
    """A model folder as `vllm serve` takes it; its tokens are bytes."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": weight(VOCABULARY, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": weight(VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = np.ones(HIDDEN, np.float32)
        for name in "qkvo":
            tensors[f"{prefix}.self_attn.{name}_proj.weight"] = weight(HIDDEN, HIDDEN)
        for name in ("gate", "up"):
            tensors[f"{prefix}.mlp.{name}_proj.weight"] = weight(INNER, HIDDEN)
        tensors[f"{prefix}.mlp.down_proj.weight"] = weight(HIDDEN, INNER)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write(folder / "config.json", _CONFIG)
    _write(folder / "generation_config.json", {"eos_token_id": 257})
    _write(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def make_adapter(folder: Path, seed: int) -> Path:
    """A LoRA adapter for it, strong enough that it answers otherwise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    rank = 8
    tensors = {}
    for layer in range(LAYERS):
        for name in "qv":
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj"
            for side, shape in (("A", (rank, HIDDEN)), ("B", (HIDDEN, rank))):
                drawn = random.standard_normal(shape).astype(np.float32)
                tensors[f"{prefix}.lora_{side}.weight"] = drawn
    save_file(tensors, folder / "adapter_model.safetensors")
    _write(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "tiny",
            "r": rank,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj"],
            "bias": "none",
        },
    )
    return folder


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(LETTERS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": SPECIAL[0],
    "eos_token": SPECIAL[1],
    "pad_token": SPECIAL[2],
    "model_max_length": CONTEXT,
    "clean_up_tokenization_spaces": False,
    "chat_template": CHAT_TEMPLATE,
}
