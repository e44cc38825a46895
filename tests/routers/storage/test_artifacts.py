"""Routers on disk: whole, unchanged, or refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from routers.errors import ArtifactError
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable
from routers.router import Router, untrained_router
from routers.storage import artifacts
from routers.storage.artifacts import load_router, save_router

TEXTS = ["what is the law", "gene 7", "a wave of 40 fields"]


def a_table(rng: np.random.Generator) -> OutcomeTable:
    ids = tuple(f"q{i}" for i in range(60))
    prompts = tuple(f"{TEXTS[i % 3]} {rng.integers(99)}" for i in range(60))
    score_NA = rng.random((60, 2)).round()
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        ids,
        prompts,
        tuple("xyz"[i % 3] for i in range(60)),
        ids,
        ("a", "b"),
        score_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        np.ones_like(score_NA),
    )


@pytest.fixture(scope="module")
def router() -> Router:
    return fit_router("r", "average", a_table(np.random.default_rng(0)), seed=1, epsilon=0.1)


@pytest.fixture
def saved(router: Router, tmp_path: Path) -> Path:
    save_router(router, tmp_path / "r")
    return tmp_path / "r"


def test_a_router_comes_back_as_it_was(router: Router, saved: Path) -> None:
    again = load_router(saved)
    np.testing.assert_array_equal(
        again.estimate(TEXTS).quality_NA, router.estimate(TEXTS).quality_NA
    )
    for name in ("name", "version", "epsilon", "typical_prompt_tokens", "metadata"):
        assert getattr(again, name) == getattr(router, name)
    assert np.isnan(again.typical_latency_s)
    assert again.policy.name == router.policy.name


def test_the_version_is_the_content_and_survives_the_round_trip(
    router: Router, tmp_path: Path
) -> None:
    first = save_router(router, tmp_path / "one")
    second = save_router(load_router(tmp_path / "one"), tmp_path / "two")
    third = save_router(replace(router, epsilon=0.2), tmp_path / "three")
    assert first == second == router.version
    assert third != first


def test_an_untrained_router_can_be_kept_too(tmp_path: Path) -> None:
    save_router(untrained_router("u"), tmp_path / "u")
    assert load_router(tmp_path / "u").estimate(TEXTS).experts == ()


def test_nothing_of_it_is_a_pickle(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [
        "encoder.safetensors",
        "estimator.safetensors",
        "manifest.json",
        "rehearsal.safetensors",
    ]


@pytest.mark.parametrize("name", ["encoder.safetensors", "estimator.safetensors", "manifest.json"])
def test_one_changed_byte_is_noticed(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=name):
        load_router(saved)


@pytest.mark.parametrize("name", ["encoder.safetensors", "estimator.safetensors", "manifest.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}': No such file"):
        load_router(saved)


def test_an_edited_manifest_is_refused(saved: Path) -> None:
    path = saved / "manifest.json"
    path.write_text(path.read_text().replace('"epsilon": 0.1', '"epsilon": 0.9'))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        load_router(saved)


def rewritten(saved: Path, **changes: object) -> None:
    """Edit the manifest as somebody would who also mends its hash."""
    path = saved / "manifest.json"
    manifest = orjson.loads(path.read_bytes()) | changes
    del manifest["version"]
    option = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2
    version = hashlib.sha256(orjson.dumps(manifest, option=option)).hexdigest()[:16]
    path.write_bytes(orjson.dumps(manifest | {"version": version}, option=option))


def test_a_mended_manifest_is_read_so_the_next_tests_test_what_they_say(saved: Path) -> None:
    rewritten(saved, name="renamed")
    assert load_router(saved).name == "renamed"


def test_an_unknown_format_is_refused_with_advice(saved: Path) -> None:
    rewritten(saved, format=99)
    with pytest.raises(ArtifactError, match=r"format 99.*train again"):
        load_router(saved)


def test_an_estimator_of_unknown_kind_is_refused_by_name(saved: Path) -> None:
    manifest = orjson.loads((saved / "manifest.json").read_bytes())
    rewritten(saved, estimator=manifest["estimator"] | {"kind": "os.system"})
    with pytest.raises(ArtifactError, match=r"unknown estimator 'os\.system'; known are average"):
        load_router(saved)


def test_parameters_that_are_missing_are_refused(saved: Path) -> None:
    manifest = orjson.loads((saved / "manifest.json").read_bytes())
    rewritten(saved, estimator=manifest["estimator"] | {"params": {}})
    with pytest.raises(ArtifactError, match="can't build"):
        load_router(saved)


@pytest.mark.parametrize("part", [None, "text", {"kind": "tfidf"}])
def test_a_manifest_that_does_not_describe_its_parts_is_refused(saved: Path, part: object) -> None:
    rewritten(saved, encoder=part)
    with pytest.raises(ArtifactError, match="encoder"):
        load_router(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{not json", b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(saved: Path, content: bytes) -> None:
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_router(saved)


def test_saving_again_replaces_the_router(router: Router, saved: Path) -> None:
    version = save_router(replace(router, epsilon=0.3), saved)
    assert load_router(saved).version == version
    assert [path.name for path in saved.parent.iterdir()] == ["r"]


def test_a_directory_of_something_else_is_left_alone(router: Router, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="is no router"):
        save_router(router, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_directory_may_be_filled(router: Router, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert save_router(router, tmp_path / "empty") == load_router(tmp_path / "empty").version


def test_a_write_that_fails_leaves_the_old_router_and_no_litter(
    router: Router, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "_write", disk_full)
    with pytest.raises(OSError, match="No space"):
        save_router(replace(router, epsilon=0.3), saved)
    assert load_router(saved).version == router.version
    assert [path.name for path in saved.parent.iterdir()] == ["r"]


def test_a_move_that_fails_puts_the_old_router_back(
    router: Router, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.replace

    def fails_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="Input/output"):
        save_router(replace(router, epsilon=0.3), saved)
    monkeypatch.undo()
    assert load_router(saved).version == router.version
    assert [path.name for path in saved.parent.iterdir()] == ["r"]
