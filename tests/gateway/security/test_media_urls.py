"""No client makes an expert of ours look into networks that the client can't reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider
from gateway.settings.experts import RemoteExpert
from tests.conftest import Serve
from tests.gateway.test_composition import DraftThenAnswer

Remote = Callable[..., Expert]
SEES = {"modalities": frozenset({"text", "image", "audio", "file"})}
INNER = [
    "http://127.0.0.1:8001/x.png",
    "http://127.1/x.png",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://0x/",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://10.1.2.3/x.png",
    "https://192.168.0.1/x.png",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://0.0.0.0/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://\uff11\uff16\uff19.\uff12\uff15\uff14.\uff11\uff16\uff19.\uff12\uff15\uff14/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127.0.0.1./",
    "http://127%2e0.0.1/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://db/",
    "http://vllm.default.svc/",
    "http://kv.prod.svc.cluster.local/",
    "http://printer.lan/",
    "http://8.8.8.8@127.0.0.1/",
    "http://example.org@10.0.0.1/",
    "http://example.org:80\\@10.0.0.1/",
    "http://exa mple.org/",
    "http://example.org\t@10.0.0.1/",
    "http:/10.0.0.1/",
    "http:10.0.0.1",
    "//10.0.0.1/",
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "gopher://example.org/",
    "ftp://example.org/",
    "s3://bucket/key",
    "http://example.org:99999/",
    "",
    "/etc/passwd",
]
OUTER = [
    "https://example.org/a.png",
    "HTTPS://Example.ORG:8443/a.png?x=1#y",
    "http://8.8.8.8/a.png",
    "http://[2606:4700::1111]/a.png",
    "https://bücher.example/a.png",
    "data:image/png;base64,AAAA",
    "DATA:image/png;base64,http://10.0.0.1",
]


def picture(url: str) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "See http://10.0.0.1"}, part]}]


@pytest.mark.parametrize("model", ["a", "auto"])
def test_an_inner_address_is_refused_however_it_is_spelt(
    serve: Serve, remote: Remote, provider: FakeProvider, model: str
) -> None:
    served = serve({"a": remote("a", provider.url, **SEES)})
    for url in INNER:
        answer = served.ask(model, messages=picture(url))
        assert answer.status_code == 400, url
        assert "public http(s) URLs only" in answer.json()["error"]["message"], url
    assert provider.bodies == []


def test_what_everybody_can_reach_goes_through(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"a": remote("a", provider.url, **SEES)})
    for url in OUTER:
        assert served.ask("a", messages=picture(url)).status_code == 200, url
        assert provider.bodies[-1]["messages"] == picture(url)


HIDDEN: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": "http://10.0.0.1/"},
    {"type": "video_url", "video_url": {"url": "http://10.0.0.1/"}},
    {"type": "audio_url", "audio_url": {"url": "http://10.0.0.1/"}},
    {"type": "text", "text": "x", "image_url": {"url": "http://10.0.0.1/"}},
    {"type": "image", "image": "http://10.0.0.1/"},
    {"type": "file", "file": {"file_url": "http://10.0.0.1/"}},
    {"type": "unheard_of", "x": {"y": [{"z": ["http://10.0.0.1/"]}]}},
    {"type": "x", "1": {"2": {"3": {"4": {"5": {"6": {"7": {"8": {"9": {}}}}}}}}}},
]


def test_wherever_in_a_part_the_url_stands(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"a": remote("a", provider.url, **SEES)})
    for part in HIDDEN:
        messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
        answer = served.ask("a", messages=messages)
        assert answer.status_code == 400, part
        assert answer.json()["error"]["param"] == "messages[0].content"
    assert provider.bodies == []


def test_on_every_wire(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    served = serve({"a": remote("a", provider.url, **SEES)})
    url = "http://10.0.0.1/x.png"
    image = {"type": "image", "source": {"type": "url", "url": url}}
    document = {"type": "document", "source": {"type": "url", "url": url}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    shown: list[dict[str, Any]] = [
        *({"role": "user", "content": [block]} for block in (image, document, result)),
        {"role": "assistant", "content": [image, {"type": "text", "text": "x"}]},
    ]
    for message in shown:
        body = {"model": "a", "max_tokens": 5, "messages": [message]}
        assert served.client.post("/v1/messages", json=body).status_code == 400, message
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    body = {"model": "a", "store": False, "input": [item]}
    assert served.client.post("/v1/responses", json=body).status_code == 400
    assert provider.bodies == []


def test_the_operator_says_how_far_an_expert_is_trusted(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve(
        {
            "any": remote("any", provider.url, media_urls="any", **SEES),
            "data": remote("data", provider.url, media_urls="data", **SEES),
        }
    )
    assert served.ask("any", messages=picture("http://10.0.0.1/")).status_code == 200
    assert served.ask("data", messages=picture("data:image/png;base64,AA")).status_code == 200
    refused = served.ask("data", messages=picture("https://example.org/a.png"))
    assert refused.status_code == 400
    assert "data: URLs only" in refused.json()["error"]["message"]
    # Under auto the one that may be asked is.
    chosen = served.ask("auto", messages=picture("https://example.org/a.png"))
    assert chosen.headers["x-pointsman-expert"] == "any"
    with pytest.raises(ValidationError, match="media_urls"):
        RemoteExpert(id="a", base_url="http://127.0.0.1:1/v1", media_urls="all")


class Trusting(DraftThenAnswer):
    """A composition that would take anything; those whom it asks would not."""

    @property
    def card(self) -> ExpertCard:
        allowed = frozenset({"chat_template"})
        return replace(super().card, media_urls="any", params_allow=allowed)


def test_a_composition_is_no_way_around(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    draft, final = remote("draft", provider.url, **SEES), remote("final", provider.url, **SEES)
    both = Trusting("both", draft, final)
    served = serve({"both": both, "draft": draft, "final": final})
    assert served.ask("both", messages=picture("http://10.0.0.1/")).status_code == 400
    assert served.ask("both", chat_template="{{ x }}").status_code == 400
    assert provider.bodies == []
