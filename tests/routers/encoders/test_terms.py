"""Terms are read fast, and the vectors that artifacts hold stay what they were."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from routers.encoders.lexical import HashingEncoder, _terms
from routers.records import Floats

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
PATTERN = re.compile(rf"[{CJK}]|[^\W{CJK}]{{2,}}")
LETTERS = st.sampled_from("aZ09_ \n.,'’éßΣİ字かx\ud83d\x1c\x85\xa0") | st.characters()


def slowly(text: str) -> list[bytes]:
    return [term.encode() for term in PATTERN.findall(text.lower())]


def hashed(text: str, dimensions: int) -> Floats:
    vector_D = np.zeros(dimensions)
    for term in slowly(text):
        code = crc32(term)
        vector_D[code % dimensions] += 1 if code & 0x10000 else -1
    return vector_D / max(float(np.linalg.norm(vector_D)), 1e-9)


@given(st.text(LETTERS))
@example("the ÉCOLE's naïve x—y 漢字kana ΑΣ a b")
def test_terms_are_what_the_pattern_finds(text: str) -> None:
    assert _terms(text) == slowly(text)


@given(st.text(LETTERS), st.sampled_from([1, 8, 64]))
def test_a_hashed_vector_counts_every_term_in_its_place(text: str, dimensions: int) -> None:
    vector_D = HashingEncoder(dimensions).encode([text])[0]
    np.testing.assert_allclose(vector_D, hashed(text, dimensions), atol=1e-6)


def test_of_a_long_text_the_two_ends_are_read() -> None:
    middle, other = "gene " * 3000, "wave " * 3000
    one, two = (f"{'law ' * 2500}{part}{'court ' * 2500}" for part in (middle, other))
    encoder = HashingEncoder()
    np.testing.assert_array_equal(encoder.encode([one]), encoder.encode([two]))
    assert (encoder.encode([one]) != encoder.encode([one[:9000]])).any()
