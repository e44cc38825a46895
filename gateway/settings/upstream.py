"""Which URLs may be called: what a slip in the configuration must not reach is refused."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

_LINK_LOCAL = [ipaddress.ip_network(net) for net in ("169.254.0.0/16", "fe80::/10")]
_METADATA_ADDRESSES = {
    ipaddress.ip_address(address)
    for address in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
}
_METADATA_NAMES = {
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
}
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}", re.IGNORECASE)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    if not allow_link_local and _is_link_local(host):
        return "is a link-local or cloud metadata address; if that is meant, set `allow_link_local`"
    return None


def _is_link_local(host: str) -> bool:
    if host in _METADATA_NAMES:
        return True
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is None:
        return False
    return address in _METADATA_ADDRESSES or any(address in network for network in _LINK_LOCAL)


def _address(host: str) -> _Address | None:
    if _NUMERIC_HOST.fullmatch(host):
        # The C library also takes 2852039166 and 0xa9.254.43518 for 169.254.169.254.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
