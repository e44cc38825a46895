"""Tokens of a prompt, as the expert who would answer it counts them; nothing is booked."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import orjson

from experts.errors import ExpertNotFoundError, ExpertTimeoutError
from experts.http.anthropic import AnthropicExpert
from gateway.ask import Ask
from gateway.state import Gateway
from routers.features import estimate_tokens


async def counted(gateway: Gateway, ask: Ask) -> tuple[int, dict[str, str]]:
    """Tokens, and headers that say whose they are, and whether they are our estimate.

    They are where the expert can't count for nothing: only some servers of Anthropic's wire do.
    """
    ask = await gateway.service.screened(ask)
    decision = await gateway.decider.decide(ask)
    expert = gateway.pool.experts[decision.expert]
    headers = {"x-pointsman-expert": decision.expert}
    tokens = None
    if isinstance(expert, AnthropicExpert):
        tokens = await _asked(expert, ask, gateway.settings.limits.first_token_s)
    if tokens is None:
        said = "\n".join([ask.request.text, *_schemas(ask.body)])
        tokens = round(estimate_tokens(said))
        headers["x-pointsman-estimated"] = "true"
    return tokens, headers


async def _asked(expert: AnthropicExpert, ask: Ask, within_s: float) -> int | None:
    try:
        with anyio.fail_after(within_s):
            return await expert.count_tokens(ask.request)
    except ExpertNotFoundError:
        # Most servers that speak this wire but are not Anthropic's can't count.
        return None
    except TimeoutError as error:
        what = f"did not count the tokens within {within_s:g} s"
        raise ExpertTimeoutError(expert.card.expert_id, what) from error


def _schemas(body: Mapping[str, object]) -> list[str]:
    """What else is read beside the conversation."""
    return [orjson.dumps(body["tools"]).decode()] if body.get("tools") else []
