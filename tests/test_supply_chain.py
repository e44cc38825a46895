"""What is installed is what was written down; nothing is installed that twice let people in."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-models.lock")
SHIPPED = ("local", "postgres", "guards", "otel", "valkey", "gpu")
_PINNED = re.compile(r"([A-Za-z0-9_.\[\],-]+)==([^ ;\\]+)")


def pinned(name: str) -> dict[str, tuple[Version, int]]:
    """Version and number of hashes of every package in a lock file."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, tuple[Version, int]] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _PINNED.match(line)
        assert match, f"not pinned: {line[:80]}"
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)
        found[canonicalize_name(match[1].split("[")[0])] = (Version(match[2]), len(hashes))
    return found


def wanted() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in SHIPPED for text in extras[extra])]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_written_down_in_a_version_that_we_want(
    requirement: Requirement,
) -> None:
    locked = pinned("requirements.lock")
    name = canonicalize_name(requirement.name)
    assert name in locked, "run `make lock`"
    assert requirement.specifier.contains(locked[name][0], prereleases=True), "run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_that_may_be_installed_is_known_by_its_hash(name: str) -> None:
    locked = pinned(name)
    assert locked
    assert {package: count for package, (_, count) in locked.items() if not count} == {}
    text = (ROOT / name).read_text()
    for elsewhere in ("://", "--index-url", "--extra-index-url", "--find-links", " @ "):
        assert elsewhere not in text


def test_an_image_installs_nothing_else() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]+)", text)
    assert len(installs) == 3
    for words in installs:
        locked = "--require-hashes" in words
        own = "--no-deps --no-build-isolation" in words and words.strip().endswith(" .")
        assert locked or own, words
    assert text.index("USER pointsman") < text.index("CMD")


def test_what_let_people_in_elsewhere_is_not_among_it() -> None:
    locked = pinned("requirements.lock")
    named = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    for package in ("litellm", "python-multipart", "pyjwt", "python-jose", "dill"):
        assert package not in locked, package
        assert package not in named, package
    starlette = next(r for r in wanted() if r.name == "starlette")
    assert not starlette.specifier.contains("1.0.0")
    assert locked["starlette"][0] >= Version("1.0.1")
