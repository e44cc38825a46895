"""The documents say what is true: every setting, route, command and link is in them."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from gateway.api.routes import OPERATOR, PUBLIC
from gateway.ask import Wishes
from gateway.cli.main import app
from gateway.ledger import tables
from gateway.settings.access import AccessSettings, KeySettings, Limit, ProjectSettings
from gateway.settings.cache import CacheSettings, SemanticSettings
from gateway.settings.cards import CardSettings, PricesSettings, PromptSettings
from gateway.settings.compositions import KINDS
from gateway.settings.devices import DeviceSettings
from gateway.settings.execution import BalanceSettings, BreakerSettings, ExecutionSettings
from gateway.settings.experts import (
    AnthropicSettings,
    CalculatorSettings,
    RemoteExpert,
)
from gateway.settings.guards import PiiGuardSettings, RegexGuardSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitSettings
from gateway.settings.load import load_settings, read_configuration
from gateway.settings.local import AdapterExpert, PackagedExpert, RayExpert, VllmExpert
from gateway.settings.logging import LoggingSettings
from gateway.settings.outcomes import (
    CodeSettings,
    GraderSettings,
    JudgeSettings,
    OutcomeSettings,
)
from gateway.settings.policies import PolicyOfAKind, PolicySettings
from gateway.settings.responses import ResponsesSettings
from gateway.settings.root import Settings
from gateway.settings.routing import RoutingSettings
from gateway.settings.server import ServerSettings
from gateway.settings.shadow import ShadowSettings
from gateway.settings.shape import models_in
from gateway.settings.telemetry import TelemetrySettings
from routers.registry import estimator_names, policy_names

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def models_of(union: object) -> list[type[BaseModel]]:
    """The members of an annotated union of models."""
    if isinstance(union, type) and issubclass(union, BaseModel):
        return [union]
    return [model for inner in get_args(union) for model in models_of(inner)]


def composition_settings() -> list[type[BaseModel]]:
    """Every kind of composition, and what their entries hold."""
    return list({model: None for kind in KINDS.values() for model in models_in(kind)})


SECTIONS: list[type[BaseModel]] = [
    Settings,
    ServerSettings,
    KeySettings,
    AccessSettings,
    Limit,
    ProjectSettings,
    RoutingSettings,
    PolicySettings,
    *models_of(PolicyOfAKind),
    LimitSettings,
    ExecutionSettings,
    BreakerSettings,
    BalanceSettings,
    CacheSettings,
    PiiGuardSettings,
    RegexGuardSettings,
    SemanticSettings,
    LedgerSettings,
    TelemetrySettings,
    LoggingSettings,
    ResponsesSettings,
    OutcomeSettings,
    GraderSettings,
    CodeSettings,
    JudgeSettings,
    ShadowSettings,
    CardSettings,
    DeviceSettings,
    RemoteExpert,
    AnthropicSettings,
    PackagedExpert,
    VllmExpert,
    RayExpert,
    AdapterExpert,
    CalculatorSettings,
    PricesSettings,
    PromptSettings,
    *composition_settings(),
]


def read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_is_documented(section: type[BaseModel]) -> None:
    text = read("docs/configuration.md")
    missing = [name for name in section.model_fields if not re.search(rf"[`.]{name}\b", text)]
    assert missing == []


def test_every_wish_and_route_is_documented() -> None:
    text = read("docs/http.md")
    assert [name for name in Wishes.model_fields if f"`{name}`" not in text] == []
    for route in chain.from_iterable(router.routes for router in (*PUBLIC, *OPERATOR)):
        path = getattr(route, "path", "").replace(":path", "")
        assert f"{path}`" in text, path


def test_every_table_is_documented() -> None:
    text = read("docs/ledger.md")
    assert [name for name in tables.metadata.tables if f"`{name}`" not in text] == []


def test_every_command_is_in_the_readme() -> None:
    text = read("README.md")
    command = get_command(app)
    names = list(getattr(command, "commands", {}))
    assert "serve" in names
    assert [name for name in names if f"pointsman {name}" not in text] == []


def test_every_estimator_is_documented() -> None:
    text = read("docs/methods.md")
    assert [name for name in estimator_names() if f"`{name}`" not in text] == []


def test_every_policy_is_documented() -> None:
    text = read("docs/policies.md")
    assert [name for name in policy_names() if f"**`{name}`**" not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    assert load_settings(path).experts


def test_the_written_out_default_is_the_default() -> None:
    assert load_settings(ROOT / "config/local.yaml") == Settings()


def configurations_in(name: str) -> list[str]:
    """Every block of a document that is a configuration, those within commands too."""
    text = read(name)
    return [
        *re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL),
        *re.findall(r"<<'YAML'\n(.*?)^YAML$", text, re.MULTILINE | re.DOTALL),
    ]


@pytest.mark.parametrize("name", ["docs/local-experts.md", "docs/engines.md"])
def test_every_configuration_of_local_experts_loads(name: str) -> None:
    blocks = configurations_in(name)
    assert len(blocks) >= 2
    for block in blocks:
        assert read_configuration(block, name).settings.experts


def test_a_bare_machine_is_ten_lines_from_three_routed_experts() -> None:
    text = read("docs/local-experts.md")
    (lines,) = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(lines.splitlines()) <= 10
    (block,) = re.findall(r"<<'YAML'\n(.*?)^YAML$", lines, re.MULTILINE | re.DOTALL)
    experts = read_configuration(block, "fleet.yaml").settings.experts
    assert [expert.kind for expert in experts] == ["vllm"] * 3


def test_every_threat_is_answered_by_a_test_that_exists() -> None:
    text = read("docs/security.md")
    named: list[tuple[str, str]] = []
    file = ""
    for path, test in re.findall(r"`([\w/]*(?:\.py)?)::(test_\w+)`", text):
        file = path or file
        named.append((file, test))
    assert len(named) > 60
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not re.search(rf"^(async )?def {test}\(", read(f"tests/{path}"), re.MULTILINE)
    ]
    assert missing == []
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    threats = [row for row in rows if not row.startswith("| attempt")]
    assert all("::test_" in row.split(" | ")[-1] for row in threats)
