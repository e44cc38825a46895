"""What makes the vectors of embedders that run in this process."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from experts.embedder import Encode
from experts.errors import ExpertConfigError
from gateway.settings.experts import EmbedderSettings
from routers.encoders.lexical import unit
from routers.encoders.static import WIDTH, StaticEncoder
from routers.errors import MissingExtraError
from routers.registry import make_encoder

_WEIGHTS = ("*.safetensors", "*/*.safetensors")


class Made(NamedTuple):
    """What embeds, and the name of the space that its vectors lie in."""

    encode: Encode
    space: str


def encoder_of(entry: EmbedderSettings) -> Made:
    """What an entry embeds with, loaded.

    Raises:
        ExpertConfigError: There is no such folder, or nothing in it that can be read.
        RoutingError: An extra is not installed.
    """
    if entry.path is not None:
        return _sentence_transformers(entry.path)
    if entry.encoder == "static":
        return _static()
    return Made(make_encoder(entry.encoder).encode, entry.encoder)


def _static() -> Made:
    """WordLlama's whole table, without the form of the text, which tells tasks and not topics."""
    encoder = StaticEncoder(WIDTH)

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return unit(encoder.encode(texts)[:, :WIDTH])

    return Made(encode, "wordllama")


def _sentence_transformers(folder: Path) -> Made:
    """A model in the folder layout of sentence-transformers; nothing is downloaded."""
    weights = sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)})
    if not weights:
        raise ExpertConfigError(f"'{folder}' holds no sentence-transformers model (safetensors)")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("an embedder with `path`", "torch") from error
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors_ND = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors_ND, dtype=np.float32)

    digest = sha256()
    for path in weights:
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return Made(encode, f"{folder.name}@{digest.hexdigest()[:12]}")
