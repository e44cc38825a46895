"""The real small model that several test modules serve."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from experts.engines.llama import LlamaSpec
from experts.errors import ExpertConfigError
from experts.weights.packaged import packaged_model


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> LlamaSpec:
    """How to serve SmolLM2; its tests are skipped where the `local` packages are not installed."""
    try:
        path: Path = packaged_model("smollm2-135m-instruct", tmp_path_factory.mktemp("models"))
    except ExpertConfigError as error:
        pytest.skip(str(error))
    if find_spec("xllamacpp") is None:
        pytest.skip("the local engine is not installed; run: pip install 'pointsman[local]'")
    return LlamaSpec("smollm2", path, context_tokens=512)
