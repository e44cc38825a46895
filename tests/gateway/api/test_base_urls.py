"""Base URLs with `/v1`, without it, and with one too many."""

from __future__ import annotations

from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.fakes.scripted import ScriptedExpert, says
from gateway.api.base_urls import meant
from tests.conftest import Serve

POOL = {"a": ScriptedExpert(ExpertCard("a"), says("Hello"))}
BODY = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/models/a/b", "/v1/models/a/b"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/models", "/v1/models"),
        ("/v1/v1", "/v1/v1"),
        ("/v1/v1/v1/models", "/v1/v1/models"),
        ("/openai/deployments/a/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/org/a/completions", "/v1/completions"),
        ("/openai/deployments/auto:cheap/embeddings", "/v1/embeddings"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/responses/r/input_items", "/v1/responses/r/input_items"),
        ("/openai/models", "/v1/models"),
        ("/openai/deployments/a/images", "/openai/deployments/a/images"),
        ("/openai/deployments/completions", "/openai/deployments/completions"),
        ("/openai/admin/keys", "/openai/admin/keys"),
        ("/openai/v1/feedback", "/openai/v1/feedback"),
        ("/openai/health/live", "/openai/health/live"),
        ("/openai", "/openai"),
        ("/openaimodels", "/openaimodels"),
        ("/modelship", "/modelship"),
        ("/admin/keys", "/admin/keys"),
        ("/feedback", "/feedback"),
        ("//models", "//models"),
        ("chat/completions", "chat/completions"),
        ("/", "/"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_what_a_path_means(path: str, served: str) -> None:
    assert meant(path) == served


@pytest.mark.parametrize("base", ["", "/v1", "/v1/v1"])
def test_clients_are_served_at_each_of_them(serve: Serve, base: str) -> None:
    client = serve(POOL).client
    answer = client.post(f"{base}/chat/completions", json=BODY)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert client.get(f"{base}/models/a").json()["id"] == "a"
    answer = client.post(f"{base}/messages", json={**BODY, "max_tokens": 9})
    assert answer.json()["content"][0]["text"] == "Hello"


@pytest.mark.parametrize("asked", [{}, {"model": "a"}, {"model": "nobody"}, {"model": None}])
def test_a_deployment_is_the_model(serve: Serve, asked: dict[str, Any]) -> None:
    client = serve(POOL).client
    body = {"messages": BODY["messages"], **asked}
    for base in ("/openai/deployments/a", "/openai/deployments/%61"):
        answer = client.post(f"{base}/chat/completions?api-version=2024-10-21", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    asked = {"prompt": "Hi", **asked}
    answer = client.post("/openai/deployments/a/completions", json=asked)
    assert answer.json()["choices"][0]["text"] == "Hello"
    answer = client.post("/openai/deployments/b/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")
    for content in (b"", b"[]", b"{"):
        answer = client.post("/openai/deployments/a/chat/completions", content=content)
        assert answer.status_code == 400


def test_rights_are_those_of_the_path_that_is_meant(serve: Serve) -> None:
    keys = [{"name": "k", "key": "long-enough", "routes": ["/v1/models"]}]
    client = serve(POOL, keys=keys).client
    authorization = {"authorization": "Bearer long-enough"}
    assert client.get("/models", headers=authorization).status_code == 200
    deployed = "/openai/deployments/a/chat/completions"
    for path in ("/chat/completions", "/v1/v1/chat/completions", deployed):
        assert client.post(path, json=BODY).status_code == 401
        assert client.post(path, json=BODY, headers=authorization).status_code == 403
