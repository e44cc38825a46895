"""What no client may have an expert do: run its code, or call addresses that it names.

A server behind a URL trusts whoever asks it, and that is us. So fields that make it compile a
template, unpickle or connect are refused unless the card allows them by name, and so are URLs of
media in networks that the client itself can't reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from experts.cards import ExpertCard
from experts.http.addresses import is_public
from experts.messages import ChatRequest, Message

POWERFUL_PARAMS = frozenset(
    {
        # Templates that the server compiles, and switches of how it does.
        "chat_template",
        "tokenize",
        # Code: names to import, or pickled objects.
        "custom_logit_processor",
        "logits_processors",
        "prompt_embeds",
        # Other servers to fetch from.
        "bootstrap_host",
        "bootstrap_port",
        "kv_transfer_params",
        # Files on its disk.
        "lora_path",
    }
)
"""Fields of vLLM, SGLang and their like that an expert gets only if `params_allow` names them."""

_KEYWORDS = "chat_template_kwargs"
"""Arguments of the server's own template; among them its text could be replaced."""
_SUSPECT = POWERFUL_PARAMS | {_KEYWORDS}
_NO_URLS = frozenset({"text", "data", "filename", "file_data", "title", "type", "detail"})
_MEDIA_BLOCKS = ("image", "document", "audio", "video", "file")
_MOST_DEPTH = 8


class Barred(NamedTuple):
    """The field at fault, and why, as what follows its name."""

    param: str
    why: str


def barred(request: ChatRequest, card: ExpertCard) -> Barred | None:
    """What in `request` this expert, or a model behind it, must not be sent, None if nothing."""
    if not may_be_barred(request):
        return None
    if card.members:
        found = (barred(request, leaf) for leaf in card.leaves)
        return next((each for each in found if each), None)
    return _powerful(request.params, card) or _media(request, card)


def may_be_barred(request: ChatRequest) -> bool:
    """Whether `barred` has anything to find for whatever card: for most requests it has not."""
    params = request.params
    if not _SUSPECT.isdisjoint(params):
        return True
    for message in request.messages:
        if type(message.content) is not str or (
            message.source is not None and message.role == "assistant"
        ):
            return True
    return False


def _powerful(params: Mapping[str, Any], card: ExpertCard) -> Barred | None:
    # Where unknown fields are dropped it gets to see none of them, but perhaps what holds one.
    paths = {} if card.params == "drop" else {n: n for n in POWERFUL_PARAMS.intersection(params)}
    within = params.get(_KEYWORDS)
    if isinstance(within, dict):
        paths |= {f"{_KEYWORDS}.{n}": n for n in POWERFUL_PARAMS.intersection(within)}
    for path, name in sorted(paths.items()):
        if name not in card.params_allow:
            return Barred(
                path, f"{card.expert_id} takes it from its operator only (`params_allow`)"
            )
    return None


def _media(request: ChatRequest, card: ExpertCard) -> Barred | None:
    if card.media_urls == "any":
        return None
    for index, message in enumerate(request.messages):
        for part in _parts(message):
            for url in _urls(part, 0):
                if why := _url_fault(url, card):
                    return Barred(f"messages[{index}].content", why)
    return None


def _parts(message: Message) -> Iterator[Any]:
    if isinstance(message.content, tuple):
        yield from message.content
    source = message.source
    if message.role == "assistant" and source is not None and isinstance(source.data, list):
        # Its parts are text alone, but who reads the source gets all that the client wrote there.
        yield from (block for block in source.data if block.get("type") in _MEDIA_BLOCKS)


def _urls(value: Any, depth: int, key: str = "") -> Iterator[str]:
    """Every URL in a part of a message, whatever the field that holds it."""
    if isinstance(value, str):
        if key == "url" or key.endswith("_url") or "://" in value[:32]:
            yield value
    elif depth > _MOST_DEPTH:
        # Nobody's format is as deep; whoever hides a URL below must not get it through.
        yield ""
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _NO_URLS or not isinstance(item, str):
                yield from _urls(item, depth + 1, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _urls(item, depth + 1, key)


def _url_fault(url: str, card: ExpertCard) -> str | None:
    if url[:5].lower() == "data:":
        return None
    if card.media_urls == "data":
        return f"{card.expert_id} takes media as data: URLs only (`media_urls`)"
    if not is_public_url(url):
        return f"{card.expert_id} takes media of public http(s) URLs only (`media_urls`)"
    return None


def is_public_url(url: str) -> bool:
    """Whether all who read `url` read the same public host in it."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        return False
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is no port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return False
    return bool(parts.hostname) and is_public(parts.hostname or "")
