"""Cascades that go on when a check, known before any answer, says a draft is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import load_settings
from tests.contracts.composition_cases import pool_of

Serve = Callable[..., Any]
LIMA = '{"city": "Lima"}'
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
UNKNOWN = {"type": "json_schema", "json_schema": {"name": "place", "schema": {"type": "shape"}}}
BY_CODE = {"by": "check", "check": {"kind": "code", "tests": "assert double(2) == 4"}}


def cascade(
    draft: str, final: str, defer: dict[str, Any], code: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A drafter and whom it defers to, each with one answer."""
    pool = {
        name: ScriptedExpert(
            ExpertCard(name, prices=Prices(1, 1), structured_output=True),
            says(text, Usage(input=10, output=5)),
        )
        for name, text in (("small", draft), ("large", final))
    }
    team = {"id": "team", "cascade": ["small", "large"], "defer": defer}
    return pool_of(pool, team, code=code)


def asked(pool: dict[str, Any]) -> tuple[int, int]:
    return len(pool["small"].calls), len(pool["large"].calls)


@pytest.mark.parametrize(
    ("draft", "wanted", "calls"),
    [
        (LIMA, BY_SCHEMA, (1, 0)),
        ('{"town": "Lima"}', BY_SCHEMA, (1, 1)),
        (f"Here it is: {LIMA}", BY_SCHEMA, (1, 1)),
        ('{"town": "Lima"}', {"type": "json_object"}, (1, 0)),
        ("Lima", {"type": "json_object"}, (1, 1)),
        # Nobody can tell of these, and what can't be told goes on.
        (LIMA, {"type": "text"}, (1, 1)),
        (LIMA, None, (1, 1)),
    ],
)
def test_a_draft_counts_if_it_meets_the_clients_own_schema(
    serve: Serve, draft: str, wanted: dict[str, Any] | None, calls: tuple[int, int]
) -> None:
    pool = cascade(draft, LIMA, {"by": "schema"})
    served = serve(pool)
    more = {} if wanted is None else {"response_format": wanted}
    answer = served.ask("team", **more)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == (LIMA if calls[1] else draft)
    assert asked(pool) == calls


def test_a_schema_that_is_none_says_nothing_of_a_draft(serve: Serve) -> None:
    pool = cascade(LIMA, LIMA, {"by": "schema"})
    assert serve(pool).ask("team", response_format=UNKNOWN).status_code == 200
    assert asked(pool) == (1, 1)


@pytest.mark.parametrize(("factor", "calls"), [(2, (1, 0)), (3, (1, 1))])
def test_a_draft_counts_if_its_code_passes_the_tests(
    serve: Serve, factor: int, calls: tuple[int, int]
) -> None:
    code = {"enabled": True}
    pool = cascade(f"def double(x):\n    return {factor} * x", "nothing", BY_CODE, code)
    assert serve(pool).ask("team").status_code == 200
    assert asked(pool) == calls


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("experts[2].defer.check", {"cascade": ["a", "b"], "defer": BY_CODE}),
        (
            "experts[2].cascade[0].cascade.defer.check",
            {"cascade": [{"cascade": {"children": ["a", "b"], "defer": BY_CODE}}, "b"]},
        ),
        ("outcomes.graders[0].check", None),
    ],
)
def test_a_check_that_may_not_run_code_is_refused_before_anything_starts(
    tmp_path: Path, where: str, more: dict[str, Any] | None
) -> None:
    experts: list[Any] = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in "ab"]
    document: dict[str, Any] = {"experts": experts}
    if more is None:
        document["outcomes"] = {"graders": [{"check": BY_CODE["check"]}]}
    else:
        experts.append({"id": "team", **more})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(FaultyConfigError) as caught:
        load_settings(file)
    (fault,) = caught.value.faults
    assert (fault.key, "outcomes.code.enabled" in fault.message) == (where, True)
    document.setdefault("outcomes", {})["code"] = {"enabled": True}
    file.write_text(yaml.safe_dump(document))
    load_settings(file)
