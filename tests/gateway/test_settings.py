from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings.base import secret
from gateway.settings.experts import RemoteExpert
from gateway.settings.load import load_settings
from gateway.settings.root import Settings

EXPERT = "{id: a, base_url: 'http://127.0.0.1:1/v1'}"


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_settings(path)


def test_an_expert_without_a_kind_is_an_openai_compatible_url(tmp_path: Path) -> None:
    (expert,) = loaded(tmp_path, f"experts: [{EXPERT}]").experts
    assert isinstance(expert, RemoteExpert)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exports: []", "`exports`"),
        ("experts: []", "none given"),
        (f"experts: [{EXPERT}, {EXPERT}]", "a given twice"),
        ("experts: [{id: a, base_url: 'ftp://x'}]", "base_url"),
        ("experts: [{kind: martian, id: a}]", "martian"),
        (f"experts: [{EXPERT}]\nrouting: {{epsilon: 1.5}}", "(got 1.5)"),
        (f"experts: [{EXPERT}]\nrouting: {{default_expert: b}}", "'b'"),
        (f"experts: [{EXPERT}]\naliases: {{x: b}}", "'x' points to 'b'"),
        (f"experts: [{EXPERT}]\naliases: {{a: a}}", "already an expert"),
        ("server: {port: 99999}", "server.port"),
        ("- a\n- b", "not a list"),
        ("a: [", "no YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence_that_names_the_place(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert words in message
    assert "c.yaml" in message
    assert "\n" not in message


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_settings(tmp_path / "none.yaml")


def test_a_faulty_key_is_never_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "keys: [{name: a, key: sk-12}]")
    assert "sk-12" not in str(caught.value)


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3")
    assert secret("env:A_SECRET") == secret("os.environ/A_SECRET") == "s3"
    assert secret("plain") == "plain"
    with pytest.raises(ConfigError, match="NOT_THERE"):
        secret("env:NOT_THERE")


def test_keys_do_not_show_in_a_representation(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "keys: [{name: a, key: sk-secret-1}]")
    assert "sk-secret-1" not in repr(settings)
