"""The last layer of MiniLM as a head that can be trained, on the states that come before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from routers.encoders.minilm import EPSILON, HEADS
from routers.records import Vectors
from routers.training.batches import torch_for

# What Adam moves a weight by at a step is its learning rate: those of the regression may move
# further than those of the layer, which only needs tuning.
_GAIN = 10.0


def padded(states: Sequence[Vectors]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """States of several texts side by side, (B, T, D), and which of them are tokens, (B, T)."""
    longest = max(map(len, states), default=1)
    width = states[0].shape[1] if states else 1
    states_BTD = np.zeros((len(states), longest, width), dtype=np.float32)
    seen_BT = np.zeros((len(states), longest), dtype=np.bool_)
    for row, states_TD in enumerate(states):
        states_BTD[row, : len(states_TD)] = states_TD
        seen_BT[row, : len(states_TD)] = True
    return states_BTD, seen_BT


def text_head(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    """Logits, (B, A): the layer, the mean over tokens as a unit vector, a linear map.

    Args:
        weights: Those of `Model.last_layer`, and "slope" (D, A) and "offset" (A,).
        inputs: "states" (B, T, D) and "seen" (B, T), above 0 for tokens; torch tensors.
    """
    functional = torch_for("the estimator 'text'").nn.functional
    states_BTD, seen_BT = inputs["states"], inputs["seen"] > 0
    rows, longest, width = states_BTD.shape
    asked = functional.linear(states_BTD, weights["asked"], weights["asked_bias"])
    queries, keys, values = asked.view(rows, longest, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    heard = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=seen_BT[:, None, None, :]
    )
    heard_BTD = functional.linear(
        heard.transpose(1, 2).flatten(2), weights["attended"], weights["attended_bias"]
    )
    states_BTD = functional.layer_norm(
        states_BTD + heard_BTD, (width,), weights["norm_1"], weights["norm_1_bias"], EPSILON
    )
    thought = functional.gelu(
        functional.linear(states_BTD, weights["raised"], weights["raised_bias"])
    )
    thought_BTD = functional.linear(thought, weights["lowered"], weights["lowered_bias"])
    states_BTD = functional.layer_norm(
        states_BTD + thought_BTD, (width,), weights["norm_2"], weights["norm_2_bias"], EPSILON
    )
    mean_BD = (states_BTD * seen_BT[:, :, None]).sum(1) / seen_BT.sum(1, keepdim=True)
    return weights["offset"] + _GAIN * (functional.normalize(mean_BD) @ weights["slope"])
