from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gateway.errors import ConfigError
from gateway.settings.base import SECRET, SECRET_URL, secret
from gateway.settings.compositions import KINDS, CascadeSettings
from gateway.settings.experts import RemoteExpert
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import load_configuration, load_settings, read_configuration
from gateway.settings.root import Settings
from gateway.settings.shape import models_in, redacted

COMPOSED = ", ".join(map(repr, KINDS))
EXPERT = "{id: a, base_url: 'http://127.0.0.1:1/v1'}"


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_settings(path)


def faults(text: str) -> list[str]:
    with pytest.raises(FaultyConfigError) as caught:
        read_configuration(text, "c.yaml")
    return str(caught.value).split("\n")


def test_an_expert_without_a_kind_is_an_openai_compatible_url(tmp_path: Path) -> None:
    (expert,) = loaded(tmp_path, f"experts: [{EXPERT}]").experts
    assert isinstance(expert, RemoteExpert)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exports: []", "c.yaml:1:1: exports: is no setting; did you mean `experts`?"),
        ("experts: []", "c.yaml:1:1: experts: needs at least one expert"),
        (
            f"experts:\n- {EXPERT}\n- {EXPERT}",
            "c.yaml:3:4: experts[1].id: the id 'a' is given twice",
        ),
        (
            f"experts: [{EXPERT}]\nrouting:\n  epsilon: 1.5",
            "c.yaml:3:3: routing.epsilon: must be ≤ 1 (got 1.5)",
        ),
        (
            f"experts: [{EXPERT}]\nrouting: {{default_expert: aa}}",
            "c.yaml:2:11: routing.default_expert: 'aa' is no expert's id; did you mean `a`?",
        ),
        (
            f"experts: [{EXPERT}]\naliases: {{a: a}}",
            "c.yaml:2:11: aliases.a: is already an expert's id",
        ),
        (
            f"experts: [{EXPERT}]\naliases: {{auto:best: a}}",
            "c.yaml:2:11: aliases.auto:best: is what requests call a router",
        ),
        (
            "experts:\n  - {id: auto, base_url: 'http://x/v1'}",
            "c.yaml:2:6: experts[0].id: 'auto' is what requests call a router",
        ),
        (
            "experts:\n  - {kind: martian, id: a}",
            "c.yaml:2:6: experts[0].kind: must be one of 'openai', 'anthropic', 'packaged',"
            " 'vllm', 'ray', 'adapter', 'calculator', 'embedder',"
            f" {COMPOSED} (got 'martian')",
        ),
        *(
            (f"experts: [{EXPERT}]\nrouting: {{policies: {{p: {said}}}}}", line)
            for said, line in (
                (
                    "{kind: flor}",
                    "c.yaml:2:26: routing.policies.p.kind: must be one of 'greedy', 'floor',"
                    " 'budget', 'pacer', 'threshold', 'conformal', 'cautious', 'capacity',"
                    " 'softmax', 'top_p', 'thompson', 'optimistic', 'pessimistic', 'modes',"
                    " 'uniform', 'plugin' (got 'flor')",
                ),
                (
                    "{kind: floor, shere: 0.9}",
                    "c.yaml:2:39: routing.policies.p.shere: is no setting; did you mean `share`?",
                ),
                (
                    "{cost_wait: 0.9}",
                    "c.yaml:2:26: routing.policies.p.cost_wait: is no setting;"
                    " did you mean `cost_weight`?",
                ),
                (
                    "{kind: budget}",
                    "c.yaml:2:22: routing.policies.p.usd_per_request: is required",
                ),
                (
                    "{kind: conformal, cheap: aa}",
                    "c.yaml:2:43: routing.policies.p.cheap: 'aa' is no expert's id;"
                    " did you mean `a`?",
                ),
                (
                    "{kind: capacity, shares: {b: 1}}",
                    "c.yaml:2:51: routing.policies.p.shares.b: 'b' is no expert's id;"
                    " known here: a",
                ),
                (
                    "{kind: plugin, policy_name: flor}",
                    "c.yaml:2:40: routing.policies.p.policy_name: 'flor' is no policy;"
                    " did you mean `floor`?",
                ),
                (
                    "{kind: plugin, policy_name: floor, settings: {share: 3}}",
                    "c.yaml:2:60: routing.policies.p.settings: does not suit 'floor':"
                    " share must be in (0, 1], got 3",
                ),
            )
        ),
        (
            f"experts:\n- {EXPERT}\n- {{id: t, cascade: [a, aa]}}",
            "c.yaml:3:24: experts[1].cascade[1]: 'aa' is no expert's id; did you mean `a`?",
        ),
        (
            f"experts:\n- {EXPERT}\n- {{id: t, vote: {{of: {{cascade: [a, aa]}}, n: 3}}}}",
            "c.yaml:3:36: experts[1].vote.of.cascade[1]: 'aa' is no expert's id; did you mean `a`?",
        ),
        ("experts: [{id: a}]", "c.yaml:1:11: experts[0]: needs either `base_url` or `base_urls`"),
        ("server: {port: 99999}", "c.yaml:1:10: server.port: must be ≤ 65535 (got 99999)"),
        ("server: {port: .inf}", "c.yaml:1:10: server.port: must be a finite number (got inf)"),
        ("server:\n", "c.yaml:1:1: server: must hold keys and values"),
        ("data_dir: a\ndata_dir: b", "c.yaml:2:1: data_dir: is given twice, first in line 1"),
        ("- a\n- b", "c.yaml:1:1: must hold keys and values"),
        ("data_dir: a\n---\ndata_dir: b", "c.yaml:2:1: holds a second document (`---`)"),
        (
            "data_dir: !!python/name:os.system x",
            "c.yaml:1:11: data_dir: has a tag that is not understood;"
            " put text that begins with ! in quotes",
        ),
    ],
)
def test_a_fault_is_named_by_line_column_and_key(text: str, line: str) -> None:
    assert faults(text) == [line]


def test_all_faults_are_told_at_once_in_the_files_order() -> None:
    text = """
experts:
  - id: small
    base_url: http://127.0.0.1:1/v1
    prices: {input: -1, outptu: 2}
  - id: small
    base_url: http://127.0.0.1:1/v1
aliases: {fast: smal}
ledger: {text: some, durabilty: strict}
"""
    assert faults(text) == [
        "c.yaml:5:5: experts[0].prices.output: is required",
        "c.yaml:5:14: experts[0].prices.input: must be ≥ 0 (got -1)",
        "c.yaml:5:25: experts[0].prices.outptu: is no setting; did you mean `output`?",
        "c.yaml:6:5: experts[1].id: the id 'small' is given twice",
        "c.yaml:8:11: aliases.fast: 'smal' is no expert's id; did you mean `small`?",
        "c.yaml:9:10: ledger.text: must be 'none', 'hash', 'redacted' or 'full' (got 'some')",
        "c.yaml:9:22: ledger.durabilty: is no setting; did you mean `durability`?",
    ]


def test_broken_yaml_is_named_by_line_and_column() -> None:
    (line,) = faults("server:\n  host: [1, 2\n")
    assert line.startswith("c.yaml:3:1: is no YAML: while parsing a flow sequence")


def test_an_unreadable_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml' can't be read: No such file"):
        load_settings(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"data_dir: caf\xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml' is no UTF-8 text"):
        load_settings(tmp_path / "latin.yaml")


def test_a_value_repeated_by_an_alias_has_the_place_where_it_is_written() -> None:
    text = "experts:\n- &one {id: a, base_url: 'ftp://x'}\n- {<<: *one, id: b}\n"
    assert [line.split(" ")[0:2] for line in faults(text)] == [
        ["c.yaml:2:16:", "experts[0].base_url:"],
        ["c.yaml:2:16:", "experts[1].base_url:"],
    ]


def test_aliases_can_not_stand_for_more_than_a_file_could_hold() -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    (line,) = faults("\n".join(bomb))
    assert line.endswith("holds more than 200000 values, aliases written out")


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}", "a: *nothing"])
def test_an_alias_can_not_hold_itself(text: str) -> None:
    (line,) = faults(text)
    assert "stands for nothing, or for itself" in line


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, f"a: {'[' * 51}{']' * 51}"])
def test_deep_nesting_is_refused(text: str) -> None:
    (line,) = faults(text)
    assert line.endswith("is nested too deeply")


def test_of_what_is_merged_the_first_counts_and_what_is_written_beside_it_before_all() -> None:
    one = "&one {id: one, base_url: 'http://one/v1', model: one}"
    two = "&two {id: two, base_url: 'http://two/v1', model: two, description: two}"
    text = f"experts:\n- {one}\n- {two}\n- {{<<: [*one, *two], id: three}}\n"
    merged = read_configuration(text, "c").settings.experts[2]
    assert isinstance(merged, RemoteExpert)
    assert (merged.id, merged.model, merged.description) == ("three", "one", "two")


@pytest.mark.parametrize("name", ["名", "a\r\nset-cookie: x", "-a", "a b", "a" * 201, "é"])
def test_a_name_that_is_unfit_for_a_header_is_refused(name: str) -> None:
    expert = {"id": name, "base_url": "http://127.0.0.1:1/v1"}
    sections: list[dict[str, Any]] = [
        {"experts": [expert]},
        {"experts": [{"kind": "calculator", "id": name}]},
        {"routing": {"router": name}},
        {"routing": {"policies": {name: {}}}},
    ]
    for section in sections:
        with pytest.raises(ValidationError):
            Settings.model_validate(section)


def test_keys_and_texts_mean_what_is_written() -> None:
    text = f"experts: [{EXPERT}]\naliases: {{on: a, 1.10: a}}"
    assert set(read_configuration(text, "c").settings.aliases) == {"on", "1.10"}
    dated = "experts: [{id: a, base_url: 'http://x/v1', released: 2026-01-02, tags: {t: 1:30}}]"
    (expert,) = read_configuration(dated, "c").settings.experts
    assert isinstance(expert, RemoteExpert)
    assert (expert.released, expert.tags) == ("2026-01-02", {"t": "1:30"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=20,
    ),
    st.sampled_from(["server", "keys", "experts", "aliases", "routing", "limits", "ledger"]),
)
def test_whatever_stands_in_a_section_is_taken_or_refused_with_its_place(
    value: Any, section: str
) -> None:
    text = yaml.safe_dump({section: value})
    try:
        read_configuration(text, "c.yaml")
    except FaultyConfigError as error:
        lines = str(error).split("\n")
        unplaced = [line for line in lines if not re.match(r"c\.yaml:\d+:\d+: ", line)]
    else:
        unplaced = []
    assert unplaced == []


@pytest.mark.parametrize(
    "text",
    [
        "keys: [{name: a, key: s3cr}]",
        "keys: [{name: a, key: 5312345678}]",
        "keys: [{name: a, admin: sk-s3cr3t-1}]",
        "keys: {sk: s3cr3t}",
        "experts: [{id: a, base_url: s3cr3t}]",
        "experts: [{id: a, kind: sk-s3cr3t}]",
        "ledger: {durability: s3cr3t-5312345678}",
        "ledger: s3cr3t",
    ],
)
def test_values_that_may_be_secrets_are_never_quoted(text: str) -> None:
    told = "\n".join(faults(text))
    assert "s3cr3t" not in told
    assert "5312345678" not in told


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3")
    assert secret("env:A_SECRET") == secret("os.environ/A_SECRET") == "s3"
    assert secret("plain") == "plain"
    with pytest.raises(ConfigError, match="NOT_THERE"):
        secret("env:NOT_THERE")


def test_every_variable_that_is_not_set_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "keys: [{name: a, key: 'env:MISSING_1'}]\n"
        "experts:\n- {id: a, base_url: http://x/v1, api_key: os.environ/MISSING_2}\n"
        "ledger: {url: 'env:MISSING_3'}\n"
    )
    unset = load_configuration(path).unset()
    assert [(f.line, f.column, f.key) for f in unset] == [
        (1, 18, "keys[0].key"),
        (3, 34, "experts[0].api_key"),
        (4, 10, "ledger.url"),
    ]
    assert "'MISSING_2' is not set" in str(unset[1])


def secret_fields() -> Iterator[tuple[type[BaseModel], str]]:
    for model in models_in(Settings):
        for name, field in model.model_fields.items():
            named = re.search(r"(^|_)(key|secret|token|password|credentials?|salt)$", name)
            if named and "Path" not in str(field.annotation):
                yield model, name


def test_everything_named_like_a_secret_is_marked_as_one() -> None:
    found = list(secret_fields())
    assert {name for _, name in found} >= {"key", "api_key"}
    for model, name in found:
        field = model.model_fields[name]
        where = f"{model.__name__}.{name}"
        assert {SECRET, SECRET_URL} & set(marks_of(field.annotation, field.metadata)), where
        assert not field.repr, where


def marks_of(annotation: Any, metadata: list[Any]) -> Iterator[Any]:
    yield from metadata
    for inner in getattr(annotation, "__args__", ()):
        yield from marks_of(inner, list(getattr(inner, "__metadata__", ())))


def test_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    text = """
keys: [{name: a, key: sk-secret-1}, {name: b, key: "env:KEY_B"}]
experts: [{id: a, base_url: http://x/v1, api_key: sk-secret-2}]
ledger: {url: "postgresql://me:sk-secret-3@host:5432/name?password=sk-secret-4"}
"""
    settings = loaded(tmp_path, text)
    plain = redacted(settings)
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in str(plain)
    assert [key["key"] for key in plain["keys"]] == ["***", "env:KEY_B"]
    assert plain["experts"][0]["api_key"] == "***"
    assert plain["ledger"]["url"] == "postgresql://host:5432/name"


def test_several_urls_are_checked_one_by_one() -> None:
    text = "experts: [{id: a, base_urls: ['http://127.0.0.1/v1', 'ftp://x']}]"
    (fault,) = faults(text)
    assert "experts[0].base_urls[1]: must begin with http" in fault


def test_every_composition_is_among_the_sections_below_one() -> None:
    assert set(models_in(CascadeSettings)) >= {CascadeSettings, *KINDS.values()}
