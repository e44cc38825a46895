"""OpenAI's legacy completions body in: JSON to one request per prompt, faults named by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.messages import ChatRequest, Message, RawInput
from gateway.access.keys import Key
from gateway.api.body import fault, model_and_stream, refuse_operator_fields
from gateway.api.chat_in import wants_usage
from gateway.ask import Ask, parse_wishes

WIRE = "openai.completions"
_OURS = ("model", "prompt", "stream", "max_tokens", "pointsman")
_MOST_PROMPTS = 256
_MOST_ANSWERS = 128


def parse_completions(body: dict[str, Any], headers: Mapping[str, str], key: Key) -> list[Ask]:
    """A completions body as one `Ask` for each of its prompts.

    Raises:
        ApiError: 400 with `param` set to the field at fault.
    """
    refuse_operator_fields(body)
    model, stream = model_and_stream(body)
    wants_usage(body)
    params = {n: value for n, value in body.items() if n not in _OURS and value is not None}
    _check_params(params, stream=stream)
    max_tokens = _whole_number(body, "max_tokens", 0)
    wishes = parse_wishes(body.get("pointsman"), headers)
    prompts = raw_inputs(body.get("prompt"), "prompt", _MOST_PROMPTS)
    return [
        Ask(
            ChatRequest(
                spoken((prompt,)), max_tokens, stream, params, task="complete", raw=(prompt,)
            ),
            model,
            WIRE,
            key,
            wishes,
            body,
        )
        for prompt in prompts
    ]


def raw_inputs(value: Any, name: str, most: int) -> tuple[RawInput, ...]:
    """A text, tokens, or an array of either.

    Raises:
        ApiError: 400 naming `name`, or the element of it at fault.
    """
    if isinstance(value, str) or _is_tokens(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise fault(name, "must be a text, an array of token numbers, or an array of either")
    if len(value) > most:
        raise fault(name, f"may have {most} elements at most")
    for place, item in enumerate(value):
        if not isinstance(item, str) and not _is_tokens(item):
            raise fault(f"{name}[{place}]", "must be a text or an array of token numbers")
    return tuple(item if isinstance(item, str) else tuple(item) for item in value)


def spoken(inputs: tuple[RawInput, ...]) -> tuple[Message, ...]:
    """The inputs as a conversation has them; of tokens nothing can be said."""
    return tuple(Message("user", item if isinstance(item, str) else None) for item in inputs)


def _is_tokens(value: Any) -> bool:
    numbers = isinstance(value, list) and bool(value)
    return numbers and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _check_params(params: Mapping[str, Any], *, stream: bool) -> None:
    count = _whole_number(params, "n", 1, _MOST_ANSWERS) or 1
    best_of = _whole_number(params, "best_of", 1, _MOST_ANSWERS)
    _whole_number(params, "logprobs", 0)
    if best_of is not None and best_of < count:
        raise fault("best_of", "must be at least n")
    if best_of is not None and best_of > count and stream:
        raise fault("best_of", "can't be streamed: which answer is best is known at the end")
    for name, kind, word in (
        ("echo", bool, "true or false"),
        ("suffix", str, "a string"),
        ("temperature", int | float, "a number"),
    ):
        if params.get(name) is not None and not isinstance(params[name], kind):
            raise fault(name, f"must be {word}")


def _whole_number(
    fields: Mapping[str, Any], name: str, least: int, most: int | None = None
) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise fault(name, f"must be a whole number of at least {least}{upto}")
    return int(value)
