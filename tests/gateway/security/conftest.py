"""Chat requests go two ways through the gateway; what is forbidden is forbidden on both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Serve, Served

BOTH_WAYS = ("test_client_fields", "test_media_urls", "test_crashes", "test_capture")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if "serve" in metafunc.fixturenames and module in BOTH_WAYS:
        metafunc.parametrize("serve", [True, False], ids=["fast", "ordinary"], indirect=True)


@pytest.fixture
def serve(request: pytest.FixtureRequest, serve: Serve) -> Serve:
    """The same, on the fast path or on the ordinary one."""
    fast = getattr(request, "param", True)

    def start(*args: Any, **sections: Any) -> Served:
        server = {"fast_path": fast, **sections.pop("server", {})}
        return serve(*args, server=server, **sections)

    return start
