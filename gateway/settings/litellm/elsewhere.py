"""What of LiteLLM's settings has no effect, and what does the same here."""

from __future__ import annotations

LEFT = "is not understood and has no effect"
NO_KEYS = (
    "gets our own tables beside LiteLLM's: its keys, teams and budgets are not taken over, "
    "`pointsman keys create` makes ours"
)
_ELSEWHERE = {
    **dict.fromkeys(
        ("max_budget", "budget_duration", "max_parallel_requests", "global_max_parallel_requests"),
        "limits and budgets belong to keys (`keys[].limits`)",
    ),
    **dict.fromkeys(
        ("callbacks", "success_callback", "failure_callback", "service_callback"),
        "figures are at /metrics, spans go to `telemetry.otlp_endpoint`, the rest is in the ledger",
    ),
    **dict.fromkeys(
        ("redis_host", "redis_port", "redis_password", "redis_url"),
        "workers and replicas share their limits by `access.shared`",
    ),
    "store_model_in_db": "models are those of this file, which a reload reads again",
    "custom_auth": "who may call are `keys` and those of `pointsman keys create`",
    "environment_variables": "set them where the process is started",
}


def left(name: str) -> str:
    """What is said of a key that is not taken over."""
    return f"{LEFT}: {_ELSEWHERE[name]}" if name in _ELSEWHERE else LEFT
