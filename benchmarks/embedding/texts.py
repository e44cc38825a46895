"""Three domains of texts that come with Python, each with what somebody would look for in them.

- `code`: functions of the standard library without their names and docstrings, found by the first
  sentence of the docstring.
- `manual`: chapters of the language reference of some 5,000 letters, found by sentences from their
  middle, which are taken out.
- `names`: names of characters, found by what HTML calls them (`cularr`: anticlockwise top
  semicircle arrow).
"""

from __future__ import annotations

import ast
import html.entities
import importlib
import inspect
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pydoc_data.topics import topics
from typing import Final

import numpy as np

from eval.retrieval import Query, RetrievalSet

PARTS = ("fit", "train", "test")
Pairs = list[tuple[str, str]]
"""What is looked for, and the text that answers it."""
_MODULES = (
    "argparse", "ast", "base64", "bisect", "calendar", "codecs", "configparser", "contextlib",
    "copy", "csv", "datetime", "decimal", "difflib", "dis", "enum", "fileinput", "fnmatch",
    "fractions", "ftplib", "functools", "getpass", "gettext", "glob", "gzip", "heapq",
    "http.client", "http.cookiejar", "imaplib", "inspect", "ipaddress", "locale", "mailbox",
    "mimetypes", "netrc", "numbers", "os", "pathlib", "pickle", "pkgutil", "platform",
    "plistlib", "posixpath", "pprint", "random", "secrets", "shelve", "shlex", "shutil",
    "smtplib", "socket", "statistics", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "timeit", "tokenize", "traceback", "types", "typing", "unittest.case",
    "unittest.mock", "urllib.parse", "urllib.request", "uuid", "warnings", "wave", "weakref",
    "zipfile",
)  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_CHAPTER = 5_000
_QUERIES_OF_A_CHAPTER = 3


def retrieval_sets(seed: int = 0, most: int = 150) -> Mapping[str, RetrievalSet]:
    """The texts in three parts that share no document: to fit embedders, to fit routers, to judge.

    Args:
        seed: Which document goes where.
        most: Documents of a domain in each part.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, tuple[list[Query], dict[str, str]]] = {part: ([], {}) for part in PARTS}
    for task, pairs in DOMAINS.items():
        found = pairs(rng)
        texts = sorted({text for _, text in found})
        drawn = [texts[place] for place in rng.permutation(len(texts))]
        size = min(most, len(drawn) // len(PARTS))
        for number, (queries, documents) in enumerate(parts.values()):
            held = drawn[number * size : (number + 1) * size]
            names = {text: f"{task}-{place}" for place, text in enumerate(held)}
            documents |= {name: text for text, name in names.items()}
            queries += [
                Query(f"{names[text]}/{place}", asked, (names[text],), task)
                for place, (asked, text) in enumerate(found)
                if text in names
            ]
    return {part: RetrievalSet(tuple(queries), texts) for part, (queries, texts) in parts.items()}


def _code(_rng: np.random.Generator) -> Pairs:
    found: dict[str, str] = {}
    for module in _MODULES:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (said := ast.get_docstring(node)):
                asked = " ".join(said.split("\n\n")[0].split())
                text = _nameless(node)
                if 25 <= len(asked) <= 160 and 120 <= len(text) <= 900:
                    found.setdefault(asked, text)
    return _once(found.items())


def _nameless(node: ast.FunctionDef) -> str:
    """A function without its name, docstring and decorators; "" if nothing is left."""
    if len(node.body) < 2:
        return ""
    node.name, node.body, node.decorator_list = "f", node.body[1:], []
    return ast.unparse(node)


def _manual(rng: np.random.Generator) -> Pairs:
    found: Pairs = []
    for topic in sorted(topics):
        for chapter in _chapters(topics[topic]):
            sentences = _SENTENCE.split(chapter)
            middle = sentences[len(sentences) // 4 : 3 * len(sentences) // 4]
            apt = [each for each in middle if 50 <= len(each) <= 200]
            asked = [apt[place] for place in rng.permutation(len(apt))[:_QUERIES_OF_A_CHAPTER]]
            left = chapter
            for sentence in asked:
                left = left.replace(sentence, "")
            found += [(sentence, left) for sentence in asked]
    return found


def _chapters(text: str) -> Iterator[str]:
    chapter: list[str] = []
    for paragraph in text.split("\n\n"):
        chapter.append(" ".join(paragraph.split()))
        if sum(map(len, chapter)) > _CHAPTER:
            yield " ".join(chapter)
            chapter = []


def _names(_rng: np.random.Generator) -> Pairs:
    found = {
        entity.rstrip(";"): unicodedata.name(character, "").lower()
        for entity, character in sorted(html.entities.html5.items())
        if entity.endswith(";") and len(character) == 1 and len(entity) > 4
    }
    return _once((entity, name) for entity, name in found.items() if name)


def _once(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Without texts that answer two questions."""
    seen: dict[str, str] = {}
    for asked, text in pairs:
        seen.setdefault(text, asked)
    return [(asked, text) for text, asked in seen.items()]


DOMAINS: Final = {"code": _code, "manual": _manual, "names": _names}
