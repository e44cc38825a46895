"""Which URLs may be called: what a slip in the configuration must not reach is refused."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from experts.http.addresses import is_link_local


def url_fault(url: str, *, allow_link_local: bool) -> str | None:
    """What is wrong with the URL of an upstream, or None; the URL is not quoted.

    Args:
        url: Up to and including `/v1`.
        allow_link_local: Whether link-local addresses and the clouds' metadata services, which hand
            out credentials, may be called.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        parts.port  # noqa: B018 - raises for one that is no port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not host or re.search(r"[\s\\]", url):
        return "is no URL with a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; give `api_key`"
    if parts.query or parts.fragment:
        return "must end with its path, without `?` or `#`"
    if not allow_link_local and is_link_local(host):
        return "is a link-local or cloud metadata address; if that is meant, set `allow_link_local`"
    return None
