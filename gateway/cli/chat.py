"""`pointsman chat`: an answer as it comes, and then who gave it, why, and what it cost."""

from __future__ import annotations

from typing import Annotated, Any

import httpx2
import orjson
import typer

from gateway.cli.asking import EndpointError, client_of, refusal, told
from gateway.cli.console import err, out
from gateway.cli.endpoint import some_gateway
from gateway.cli.options import ApiKey, Config, Url
from gateway.dashboard.money import dollars
from gateway.settings.load import load_settings

_ANSWER_S = 180.0
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])
"""What a terminal would do rather than show: models have no say in that."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    prompt: Annotated[str | None, typer.Argument(help="One question; without it, a talk.")] = None,
    model: Annotated[str, typer.Option(help="auto, auto:cheap, an expert, ...")] = "auto",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    url: Url = None,
    key: ApiKey = None,
    config: Config = None,
) -> None:
    """Talk to the endpoint; an empty line ends the talk."""
    settings = load_settings(config)
    with (
        some_gateway(url, settings) as base,
        client_of(base, key, _ANSWER_S) as client,
    ):
        said: list[dict[str, str]] = []
        while question := prompt or _read_line():
            said.append({"role": "user", "content": question})
            answer = _ask(client, {"model": model, "messages": said, "max_tokens": max_tokens})
            said.append({"role": "assistant", "content": answer})
            if prompt:
                return


def _read_line() -> str:
    try:
        return input("you> ").strip()
    except EOFError:
        return ""


def _ask(client: httpx2.Client, body: dict[str, Any]) -> str:
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    pieces: list[str] = []
    try:
        with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            if answer.status_code != 200:
                answer.read()
                raise EndpointError(refusal(answer))
            for chunk in _chunks(answer):
                for choice in chunk.get("choices", ()):
                    pieces.append(choice["delta"].get("content") or "")
                    shown = pieces[-1].translate(_CONTROLS)
                    out.print(shown, end="", markup=False, soft_wrap=True)
            out.print()
            decision_id = answer.headers["x-pointsman-decision-id"]
    except httpx2.TransportError as error:
        raise EndpointError(f"no answer from {client.base_url}: {error}") from error
    _say_who(client, decision_id)
    return "".join(pieces)


def _chunks(answer: httpx2.Response) -> Any:
    for line in answer.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            chunk = orjson.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise EndpointError(chunk["error"]["message"])
            yield chunk


def _say_who(client: httpx2.Client, decision_id: str) -> None:
    record = told(client, "GET", f"/v1/decisions/{decision_id}")
    result = record.get("result") or {}
    tree = record["cost"]
    cost = dollars(tree["total_usd"]) + ("" if tree["complete"] else " and calls of unknown price")
    err.print(
        f"[dim]{result.get('answered_by')} answered in {result.get('latency_s', 0):.2f} s "
        f"for {cost}. "
        f"{record['explanation']}[/]",
        soft_wrap=True,
    )
