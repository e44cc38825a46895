"""Whatever stands at any place of a configuration is taken, or refused with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.checking import find_faults, find_warnings
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration

BOTH_LAYOUTS = """\
model_list:
  - model_name: fast
    litellm_params: {model: openai/q, api_base: "http://127.0.0.1:1/v1", api_key: sk-planted-1}
    model_info: {input_cost_per_token: 1.0e-7, output_cost_per_token: 1.0e-6, mode: chat}
router_settings:
  fallbacks: [{fast: [own]}]
  allowed_fails: 3
  model_group_alias: {gpt: fast}
litellm_settings: {cache: true, cache_params: {ttl: 600}, default_fallbacks: [own]}
general_settings: {master_key: sk-planted-2, database_url: "sqlite:///x.db"}
keys: [{name: a, key: sk-planted-3, limits: [{usd: 1, per: day}]}]
execution: {fallbacks: {fast: [own]}}
experts:
  - {id: own, base_url: "http://127.0.0.1:1/v1", model: m}
  - {id: vote, kind: vote, of: own, n: 3, same: exact}
  - {id: engine, kind: vllm, model: m, adapters: {sql: /adapters/sql}}
aliases: {other: own}
routing: {policies: {p: {kind: threshold, strong: own, weak: fast}}}
shadow: {share: 0.1, experts: [own]}
judges: [{name: j, expert: own, budget_usd: 1}]
guards: [{kind: regex, name: g, patterns: {word: abc}}]
access: {projects: {x: {limits: [{requests: 1, per: day}]}}}
"""
ODD = (5, "", "x", [[5]], {"a": {"b": 5}}, [{"fast": 5}])


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield (*here, key)
        yield from places(each, (*here, key))


def put(place: tuple[Any, ...], odd: Any) -> str:
    data = at = yaml.safe_load(BOTH_LAYOUTS)
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = odd
    return yaml.safe_dump(data)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_values_are_faults_with_a_place_and_without_a_secret(odd: Any) -> None:
    for place in places(yaml.safe_load(BOTH_LAYOUTS)):
        try:
            configuration = read_configuration(put(place, odd), "c.yaml")
            told = [*find_faults(configuration), *find_warnings(configuration)]
        except FaultyConfigError as error:
            told = list(error.faults)
        lines = [str(each) for each in told]
        assert [line for line in lines if not re.match(r"c\.yaml:\d+:\d+: ", line)] == [], place
        assert "planted" not in "\n".join(lines), place


def test_the_file_is_right_but_for_what_is_put_into_it() -> None:
    assert len(read_configuration(BOTH_LAYOUTS, "c.yaml").settings.experts) == 5
