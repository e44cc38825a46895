from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experts.fakes.provider import FakeProvider
from gateway.checking import find_faults
from gateway.settings.base import secret
from gateway.settings.experts import AnthropicSettings, RemoteExpert, UrlExpert
from gateway.settings.faults import FaultyConfigError
from gateway.settings.limits import LimitSettings
from gateway.settings.load import Configuration, read_configuration
from tests.gateway.reload.conftest import start

__all__ = ["start"]

FILE = """\
model_list:
  - model_name: fast
    litellm_params:
      model: openai/Qwen3-8B
      api_base: http://127.0.0.1:8001/v1
      api_key: os.environ/VLLM_KEY
      rpm: 600
    model_info: {input_cost_per_token: 2.5e-7, output_cost_per_token: 1e-6, max_input_tokens: 32768}
  - model_name: fast
    litellm_params:
      model: openai/Qwen3-8B
      api_base: http://127.0.0.1:8002/v1
      api_key: os.environ/VLLM_KEY
    model_info: {input_cost_per_token: 2.5e-7, output_cost_per_token: 1e-6, max_input_tokens: 32768}
  - model_name: strong
    litellm_params: {model: anthropic/claude-sonnet-4-5, max_parallel_requests: 7, timeout: 45}
    model_info: {supports_vision: true}
  - model_name: cloud
    litellm_params: {model: bedrock/anthropic.claude-3}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 3
  fallbacks: [{fast: [strong]}, {strong: [cloud]}]
  model_group_alias: {gpt-4: strong}
  allowed_fails: 4
litellm_settings:
  drop_params: true
  callbacks: [prometheus]
  request_timeout: 90
  cache: true
  cache_params: {type: local, ttl: 60}
general_settings:
  master_key: os.environ/MASTER_KEY
  database_url: os.environ/DATABASE_URL
  alerting: [slack]
"""


def read(models: list[dict[str, Any]] | None = None, **sections: Any) -> Configuration:
    models = [] if models is None else models
    return read_configuration(yaml.safe_dump({"model_list": models, **sections}), "c.yaml")


def model(name: str, params: dict[str, Any], **info: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": params, "model_info": info}


def only(configuration: Configuration) -> UrlExpert:
    (expert,) = configuration.settings.experts
    assert isinstance(expert, UrlExpert)
    return expert


def test_a_pattern_of_models_says_what_to_write_instead() -> None:
    named = model("gpt", {"model": "openai/gpt-4o"})
    patterns = [
        model("openai/*", {"model": "openai/*"}),
        model("anthropic/*", {"model": "anthropic/*"}),
        model("*", {"model": "*"}),
    ]
    told = [str(each) for each in read([named, *patterns]).warnings]
    assert len(told) == 3
    assert "'openai/*' is not taken over" in told[0]
    assert "{model_name: NAME, litellm_params: {model: openai/NAME}}" in told[0]
    assert "model_list[2]" in told[1]
    assert "litellm_params: {model: anthropic/NAME}" in told[1]
    assert "'*' is not taken over" in told[2]
    # As it stands, the example is understood.
    (example,) = re.findall(r"as (\{.*\})", told[1])
    assert only(read([yaml.safe_load(example)])).model == "NAME"


def test_where_nothing_can_be_served_the_reasons_are_the_faults() -> None:
    cloud = model("cloud", {"model": "bedrock/anthropic.claude-3"})
    with pytest.raises(FaultyConfigError) as caught:
        read([model("openai/*", {"model": "openai/*"}), cloud])
    assert "'openai/*' is not taken over" in str(caught.value)
    assert "'bedrock' is not known here" in str(caught.value)
    ours = [{"id": "a", "base_url": "http://127.0.0.1:1/v1"}]
    assert len(read([cloud], experts=ours).warnings) == 1


def test_a_whole_file_is_understood_as_it_is() -> None:
    settings = read_configuration(FILE, "c.yaml").settings
    fast, strong = settings.experts
    assert isinstance(fast, RemoteExpert)
    assert isinstance(strong, AnthropicSettings)
    assert (fast.id, fast.model) == ("fast", "Qwen3-8B")
    assert fast.urls == ("http://127.0.0.1:8001/v1", "http://127.0.0.1:8002/v1")
    assert fast.api_key == "os.environ/VLLM_KEY"
    assert fast.prices is not None
    assert (fast.prices.input, fast.prices.output) == (0.25, 1.0)
    assert (fast.context_tokens, fast.params) == (32768, "drop")
    assert strong.urls == ("https://api.anthropic.com/v1",)
    assert (strong.api_key, strong.model) == ("env:ANTHROPIC_API_KEY", "claude-sonnet-4-5")
    assert strong.catalogue == "anthropic/claude-sonnet-4-5"
    assert strong.max_concurrency == 7
    assert strong.modalities == frozenset({"text", "image"})
    assert strong.tools
    assert settings.execution.fallbacks == {"fast": ("strong",)}
    assert settings.execution.fallback_on == {"auth"}
    assert (settings.execution.max_retries, settings.breaker.failures) == (3, 5)
    assert (settings.limits.total_s, strong.limits.whole_s) == (90, 45)
    assert (settings.cache.exact, settings.cache.ttl_s) == (True, 60)
    assert settings.aliases == {"gpt-4": "strong"}
    assert [(key.name, key.key, key.role) for key in settings.keys] == [
        ("master", "os.environ/MASTER_KEY", "admin")
    ]
    assert settings.ledger.url == "os.environ/DATABASE_URL"


@pytest.mark.parametrize(
    ("given", "whole_s", "stream_s"),
    [
        ({"timeout": 5}, 5, 5),
        ({"timeout": 5, "stream_timeout": 2}, 5, 2),
        ({"stream_timeout": 2}, None, 2),
        ({"timeout": 600}, 600, None),
        ({}, None, None),
    ],
)
def test_a_deployments_time_limits_are_its_own_and_hold_for_streams_too(
    given: dict[str, float], whole_s: float | None, stream_s: float | None
) -> None:
    params = {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:8001/v1"}
    settings = read([model("m", {**params, **given}), model("other", params)]).settings
    own, others = (each.limits for each in settings.experts if isinstance(each, UrlExpert))
    assert own.whole_s == whole_s
    assert (own.header_s, own.first_token_s, own.idle_s) == (stream_s,) * 3
    assert others.model_dump(exclude_none=True) == {}
    assert settings.limits.total_s == max(120, whole_s or 0)
    assert settings.limits.whole_s == LimitSettings().whole_s


def test_of_the_endpoints_of_one_model_the_longest_time_limit_holds() -> None:
    def at(port: int, timeout: float) -> dict[str, Any]:
        base = f"http://127.0.0.1:{port}/v1"
        return model("m", {"model": "hosted_vllm/m", "api_base": base, "timeout": timeout})

    assert only(read([at(1, 5), at(2, 9)])).limits.whole_s == 9


def test_a_deadline_that_is_named_stays() -> None:
    params = {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:8001/v1", "timeout": 600}
    router = {"timeout": 300, "stream_timeout": 1}
    configuration = read([model("m", params)], router_settings=router)
    limits = configuration.settings.limits
    assert (limits.total_s, limits.first_token_s, configuration.warnings) == (300, 1, ())


def test_default_fallbacks_stand_in_for_all_but_themselves() -> None:
    served = [model(name, {"model": "hosted_vllm/m", "api_base": "http://h"}) for name in "abc"]
    theirs = {"default_fallbacks": ["b", "c"]}
    execution = read(served, litellm_settings=theirs).settings.execution
    assert execution.fallbacks == {"a": ("b", "c"), "b": ("c",), "c": ("b",)}
    assert execution.fallback_on == {"auth"}
    own = read(served, litellm_settings=theirs, execution={"fallback_on": ["invalid_request"]})
    assert own.settings.execution.fallback_on == {"invalid_request"}


def test_what_has_no_effect_is_told_with_its_place() -> None:
    warnings = read_configuration(FILE, "c.yaml").warnings
    assert [(w.line, w.key) for w in warnings] == [
        (7, "model_list[0].litellm_params.rpm"),
        (19, "model_list[3].litellm_params.model"),
        (21, "router_settings.routing_strategy"),
        (23, "router_settings.fallbacks[1]"),
        (34, "general_settings.database_url"),
        (35, "general_settings.alerting"),
    ]
    assert "'bedrock' is not known here" in warnings[1].message
    assert "its keys, teams and budgets are not taken over" in warnings[4].message


@pytest.mark.parametrize(
    ("section", "name", "value", "instead"),
    [
        ("litellm_settings", "max_budget", 100, "keys[].limits"),
        ("litellm_settings", "success_callback", ["langfuse"], "telemetry.otlp_endpoint"),
        ("router_settings", "redis_host", "cache.internal", "access.shared"),
        ("general_settings", "store_model_in_db", True, "this file"),
        ("environment_variables", "A", "b", "where the process is started"),
    ],
)
def test_what_many_files_have_is_told_with_what_does_it_here(
    section: str, name: str, value: Any, instead: str
) -> None:
    served = model("m", {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:8001/v1"})
    (warning,) = read([served], **{section: {name: value}}).warnings
    assert "has no effect" in warning.message
    assert instead in warning.message


def test_faults_are_told_in_the_files_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_KEY", raising=False)
    faults = [str(fault) for fault in find_faults(read_configuration(FILE, "c.yaml"))]
    assert faults[0] == (
        "c.yaml:6:7: model_list[0].litellm_params.api_key: "
        "the environment variable 'VLLM_KEY' is not set"
    )
    wrong = FILE.replace("2.5e-7", "-1").replace("num_retries: 3", "num_retries: 99")
    with pytest.raises(FaultyConfigError) as caught:
        read_configuration(wrong, "c.yaml")
    assert [(f.line, f.key) for f in caught.value.faults] == [
        (8, "model_list[0].model_info.input_cost_per_token"),
        (22, "router_settings.num_retries"),
    ]


@pytest.mark.parametrize("price", [1e-6, "1e-6", "0.000001"])
def test_a_price_per_token_is_the_same_however_it_is_written(price: float | str) -> None:
    text = f"""
model_list:
- model_name: a
  litellm_params: {{model: openai/m, api_base: http://x/v1, api_key: k}}
  model_info: {{input_cost_per_token: {price}, output_cost_per_token: '{price}'}}
"""
    prices = only(read_configuration(text, "c")).prices
    assert prices is not None
    assert (prices.input, prices.output) == (1.0, 1.0)


def test_what_embeds_has_no_answer_to_be_paid_for() -> None:
    params = {"model": "hosted_vllm/e", "api_base": "http://127.0.0.1:8001/v1"}
    prices = only(read([model("e", params, mode="embedding", input_cost_per_token=1e-7)])).prices
    assert prices is not None
    assert (prices.input, prices.output) == (0.1, 0)


@pytest.mark.parametrize(
    ("info", "senses"),
    [
        ({"supports_vision": False}, {"text"}),
        ({"supports_vision": False, "supports_audio_input": True}, {"text", "audio"}),
        ({}, None),
    ],
)
def test_what_a_model_is_said_not_to_see_it_is_not_sent(
    info: dict[str, bool], senses: set[str] | None
) -> None:
    params = {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:8001/v1"}
    expert = only(read([model("m", params, **info)]))
    assert isinstance(expert, RemoteExpert)
    assert expert.modalities == (None if senses is None else frozenset(senses))


def test_half_a_price_is_refused_rather_than_taken_for_free() -> None:
    params = {"model": "openai/m", "api_base": "http://x/v1"}
    with pytest.raises(FaultyConfigError, match=r"model_info\.output_cost_per_token: is required"):
        read([model("a", params, input_cost_per_token=1e-6)])


@pytest.mark.parametrize(
    ("name", "url", "known_as", "variable"),
    [
        ("openai/gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        ("gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        ("claude-sonnet-4-5", "https://api.anthropic.com/v1", None, "ANTHROPIC_API_KEY"),
        ("mistral/mistral-large", "https://api.mistral.ai/v1", None, "MISTRAL_API_KEY"),
        ("groq/llama-3", "https://api.groq.com/openai/v1", None, "GROQ_API_KEY"),
        ("deepseek/deepseek-chat", "https://api.deepseek.com/v1", None, "DEEPSEEK_API_KEY"),
        ("together_ai/a/b", "https://api.together.xyz/v1", "a/b", "TOGETHERAI_API_KEY"),
        ("openrouter/x/y", "https://openrouter.ai/api/v1", "x/y", "OPENROUTER_API_KEY"),
        ("ollama/llama3", "http://localhost:11434/v1", "llama3", None),
    ],
)
def test_well_known_providers_need_neither_url_nor_key(
    name: str, url: str, known_as: str | None, variable: str | None
) -> None:
    expert = only(read([model("a", {"model": name})]))
    assert expert.urls == (url,)
    assert expert.model == (known_as or name.rpartition("/")[2])
    assert expert.api_key == (variable and f"env:{variable}")


@pytest.mark.parametrize(
    ("params", "url"),
    [
        ({"model": "ollama/m", "api_base": "http://h:1"}, "http://h:1/v1"),
        ({"model": "anthropic/m", "api_base": "https://p/"}, "https://p/v1"),
        ({"model": "azure/d", "api_base": "https://r.azure.com/"}, "https://r.azure.com/openai/v1"),
        ({"model": "hosted_vllm/m", "api_base": "http://h:1/v1"}, "http://h:1/v1"),
        ({"model": "m", "custom_llm_provider": "openai"}, "https://api.openai.com/v1"),
        ({"model": "m", "base_url": "http://h:1/v1"}, "http://h:1/v1"),
        ({"model": "m", "api_base": "os.environ/SOME_BASE"}, "http://env:1/v1"),
    ],
)
def test_urls_are_what_litellm_would_call(
    params: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_BASE", "http://env:1/v1")
    assert only(read([model("a", params)])).urls == (url,)


def test_a_providers_key_is_never_sent_to_somebody_elses_url() -> None:
    params = {"model": "openai/m", "api_base": "http://somewhere:1/v1"}
    assert only(read([model("a", params)])).api_key is None


def test_deployments_that_differ_stand_in_for_each_other() -> None:
    one = model("a", {"model": "openai/m", "api_base": "http://x/v1", "api_key": "k1-secret"})
    two = model("a", {"model": "openai/n", "api_base": "http://y/v1", "api_key": "k2-secret"})
    configuration = read([one, two])
    assert [expert.id for expert in configuration.settings.experts] == ["a", "a-2"]
    assert configuration.settings.execution.fallbacks == {"a": ("a-2",)}
    (warning,) = configuration.warnings
    assert "shares no load" in warning.message


@pytest.mark.parametrize("target", [["m"], {"model": ["m"]}, 5, None])
def test_an_alias_of_something_that_names_nobody_is_told(target: Any) -> None:
    entry = model("a", {"model": "ollama/m"})
    configuration = read([entry], router_settings={"model_group_alias": {"b": target}})
    assert configuration.settings.aliases == {}
    (warning,) = configuration.warnings
    assert warning.key == "router_settings.model_group_alias.b"
    assert "has no effect" in warning.message


def test_a_file_of_both_layouts_works_and_ours_wins() -> None:
    ours = {"id": "own", "base_url": "http://o/v1"}
    configuration = read(
        [model("theirs", {"model": "ollama/m"})],
        experts=[ours],
        keys=[{"name": "op", "key": "long-enough"}],
        execution={"max_retries": 1},
        aliases={"x": "theirs"},
        router_settings={"num_retries": 5, "fallbacks": [{"own": ["theirs"]}]},
        ledger={"url": "sqlite:///own.db"},
        general_settings={"master_key": "sk-1234", "database_url": "sqlite:///theirs.db"},
    )
    settings = configuration.settings
    assert [expert.id for expert in settings.experts] == ["own", "theirs"]
    assert [key.name for key in settings.keys] == ["op", "master"]
    assert settings.execution.max_retries == 1
    assert settings.execution.fallbacks == {"own": ("theirs",)}
    assert [(each.key, each.message) for each in configuration.warnings] == [
        ("general_settings.database_url", "has no effect: `ledger.url` is given as well"),
        ("router_settings.num_retries", "has no effect: `execution.max_retries` is given as well"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model_list: 5", "c:1:1: model_list: must be a list"),
        ("model_list: [5]", "c:1:14: model_list[0]: must hold keys and values"),
        (
            "model_list: [{model_name: a}]",
            "c:1:14: model_list[0].litellm_params.model: must be text",
        ),
        (
            "model_list: [{litellm_params: {model: m}}]",
            "c:1:14: model_list[0].model_name: must be text",
        ),
        ("model_list: []\nrouter_settings: 5", "c:2:1: router_settings: must hold keys and values"),
        (
            "model_list: [{model_name: auto, litellm_params: {model: bedrock/x}}]",
            "c:1:1: model_list: needs at least one expert",
        ),
    ],
)
def test_what_is_no_model_list_is_refused(text: str, line: str) -> None:
    with pytest.raises(FaultyConfigError) as caught:
        read_configuration(text, "c")
    assert line in str(caught.value).split("\n")


_WORDS = [
    *("model_name", "litellm_params", "model_info", "model", "fallbacks", "cache"),
    *("model_group_alias", "num_retries", "api_base", "master_key", "default_fallbacks"),
]


@given(
    st.sampled_from(["model_list", "router_settings", "litellm_settings", "general_settings"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab/*", max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(_WORDS),
                inner,
            )
        ),
        max_leaves=15,
    ),
)
def test_whatever_litellms_sections_hold_is_taken_or_refused_with_its_place(
    section: str, value: Any
) -> None:
    base = {"model_list": [model("m", {"model": "ollama/m"})]}
    try:
        read_configuration(yaml.safe_dump({**base, section: value}), "c")
    except FaultyConfigError as error:
        lines = str(error).split("\n")
    else:
        lines = []
    assert [line for line in lines if not re.match(r"c:\d+:\d+: ", line)] == []


def test_it_just_works(
    start: Any, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MASTER_KEY", "sk-master-key")
    params = {"model": "openai/real-name", "api_base": provider.url, "api_key": "sk-upstream-key"}
    info = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    running = start(
        model_list=[model("fast", params, **info)],
        general_settings={"master_key": "os.environ/MASTER_KEY"},
    )
    assert running.ask("fast").status_code == 401
    running.client.headers["authorization"] = f"Bearer {secret('env:MASTER_KEY')}"
    answer = running.ask("fast")
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-cost-usd"] == "0.000014000"
    assert provider.bodies[-1]["model"] == "real-name"
    assert provider.headers[-1]["authorization"] == "Bearer sk-upstream-key"
    assert json.loads(running.path.read_text())["model_list"]
