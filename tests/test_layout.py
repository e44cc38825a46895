"""Rules of the house that no linter checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "eval", "routers", "experts")
FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    # A migration is a record of what was done, not code that is read and changed.
    if path.parent.name != "versions"
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE = {"utils.py", "helpers.py", "common.py", "misc.py", "models.py"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return len((ast.get_docstring(function, clean=False) or "").splitlines())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_stay_small() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_stay_small() -> None:
    lines = {
        f"{name_of(path)}: {function.name}": (function.end_lineno or 0)
        - function.lineno
        + 1
        - docstring_lines(function)
        for path in (*FILES, *TESTS)
        for function in functions(path)
    }
    assert len(lines) > 1_000
    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [name_of(path) for path in FILES if path.name in VAGUE] == []


def test_eval_is_never_imported_whole() -> None:
    """`import eval` would hide a builtin."""
    for path in (*FILES, *TESTS):
        for imported in re.findall(r"^ *import (.+)$", path.read_text(), re.MULTILINE):
            names = [name.split(".")[0].strip() for name in imported.split(",")]
            assert "eval" not in names, path


def test_the_web_frameworks_object_is_never_called_router() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        assert "router = Routes" not in path.read_text(), path


def test_package_inits_hold_a_docstring_and_nothing_else() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_only_the_gateway_reads_the_environment() -> None:
    for path in FILES:
        # What runs inside a vLLM server is told the key that way, as vLLM itself is.
        inside = path.parent.name == "vllm_side"
        if path.relative_to(ROOT).parts[0] != "gateway" and not inside:
            text = path.read_text()
            assert "os.environ" not in text, path
            assert "getenv" not in text, path
