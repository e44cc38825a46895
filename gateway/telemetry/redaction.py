"""Takes secrets out of what leaves the process: logs, errors, spans, errors in the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel

from gateway.errors import ConfigError
from gateway.settings.base import secret
from gateway.settings.shape import secrets_in

REDACTED = "[redacted]"
_SHORTEST = 6
"""Shorter known values would take innocent text with them; patterns still find most of them."""
_TAIL = 4
_KEEP = rf"\1{REDACTED}"

# Each keeps its group and loses the rest. Bounded repetitions keep hostile text from being slow.
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        # user:password@ of a URL
        r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/?#@\"']{1,512}@",
        # Authorization: Bearer ..., api_key=..., "password": "...", (b"x-api-key", b"...")
        r"(\b(?:authorization|(?:x-)?api[-_]?key|password|passwd|secret|token)"
        r"(?:[\"'],\s{0,4}b?[\"']|[\"']{0,2}\s{0,4}[:=]\s{0,4}(?:b(?=[\"']))?[\"']{0,2}))"
        r"(?:(?:bearer|basic)\s{1,4})?[^\s\"',;&}]{4,4096}",
        r"(\b(?:bearer|basic)\s{1,4})[a-z0-9._~+/=*-]{6,4096}",
        # The forms that providers and we give to keys, whole or with stars in their middle.
        r"()\b(?:sk|pk|rk|pm|xai|gsk|hf|ghp)[-_][a-z0-9_*.•…-]{6,512}",
        r"()\baiza[a-z0-9_*.•…-]{6,512}",
        r"()\beyj[a-z0-9_-]{7,4096}\.[a-z0-9_-]{8,4096}\.[a-z0-9_-]{0,4096}",
        # What is left of a key that somebody masked: ****abcd
        r"()[a-z0-9_-]{0,16}(?:[*•]{3,64}|…)[a-z0-9_-]{2,16}",
    )
)
_SIGNS = (
    *("://", "author", "api", "passw", "secret", "token", "bearer", "basic"),
    *(
        f"{form}{dash}"
        for form in ("sk", "pk", "rk", "pm", "xai", "gsk", "hf", "ghp")
        for dash in "-_"
    ),
    *("aiza", "eyj", "***", "••", "•*", "*•", "…", "end"),
)
"""No pattern finds anything in a text that has none of these; looking for them is much faster."""


class Redactor:
    """Replaces known secrets by value, and whatever looks like one by its form.

    Args:
        secrets: Values that must never be seen, e.g. the keys of providers.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Know more secrets, from the next text on; none is ever forgotten."""
        self._secrets |= frozenset(secrets)
        found = {value for secret in self._secrets for value in _forms(secret)}
        # Longest first, so that no secret survives as the rest of another one.
        known = sorted((v for v in found if len(v) >= _SHORTEST), key=len, reverse=True)
        tails = {value[-_TAIL:] for value in known if len(value) >= 2 * _SHORTEST}
        ends = "|".join(map(re.escape, sorted(tails)))
        tail = re.compile(rf"(\bend(?:s|ing)?\b.{{0,40}}?)(?:{ends})", re.IGNORECASE)
        self._known = known
        self._patterns = (*_PATTERNS, tail) if tails else _PATTERNS

    def suspects(self, text: str) -> bool:
        """Whether `text` may hold a secret; False is certain."""
        low = text.lower()
        return any(sign in low for sign in _SIGNS) or any(value in text for value in self._known)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        if not self.suspects(text):
            return text
        for value in self._known:
            text = text.replace(value, REDACTED)
        for pattern in self._patterns:
            text = pattern.sub(_KEEP, text)
        return text


def secrets_of(settings: BaseModel) -> set[str]:
    """Every secret that a configuration holds or points to; of a URL, its password."""
    found: set[str] = set()
    for _, value in secrets_in(settings):
        try:
            resolved = secret(value)
        except ConfigError:
            # Whoever needs it says that the variable is missing.
            continue
        found.update(_passwords(resolved) if "://" in resolved else (resolved,))
    return found


def _passwords(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return
    if password:
        yield password
    # What drivers take there too.
    yield from (value for name, value in parse_qsl(parts.query) if name.endswith("password"))


def _forms(secret_value: str) -> tuple[str, ...]:
    shown = repr(secret_value)[1:-1]
    return (secret_value, quote(secret_value, safe=""), unquote(secret_value), shown)
