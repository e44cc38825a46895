"""What can be told of a host without asking for its name: is it link-local, is it public?"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}", re.IGNORECASE)
_HOLDS_IPV4 = [ipaddress.ip_network(net) for net in ("64:ff9b::/96", "2002::/16", "2001::/32")]
"""What is behind such an address depends on a translator; an inner one may be."""
_INNER_NAMES = (
    *("localhost", "local", "internal", "localdomain", "lan", "home", "corp", "intranet"),
    *("private", "home.arpa", "svc"),
)


def address_of(host: str) -> Address | None:
    """The address that `host` is a spelling of, None if it is a name."""
    host = unicodedata.normalize("NFKC", host).rstrip(".")
    if _NUMERIC_HOST.fullmatch(host):
        # The C library also takes 2852039166 and 0xa9.254.43518 for 169.254.169.254.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_link_local(host: str) -> bool:
    """Whether `host` is link-local or the metadata service of a cloud, which hands out keys."""
    if host.rstrip(".").lower() in _METADATA_NAMES:
        return True
    address = address_of(host)
    if address is None:
        return False
    return address in _METADATA_ADDRESSES or any(address in network for network in _LINK_LOCAL)


def is_public_address(address: Address) -> bool:
    """Whether everybody can reach `address`, and no network of ours is behind it."""
    if address.is_multicast or address in _METADATA_ADDRESSES:
        return False
    return address.is_global and not any(address in network for network in _HOLDS_IPV4)


def is_public(host: str) -> bool:
    """Whether `host` looks like one that everybody can reach.

    A name is believed: what it resolves to, now and when somebody else asks, is not known here.
    """
    address = address_of(host)
    if address is not None:
        return is_public_address(address)
    name = unicodedata.normalize("NFKC", host).lower().rstrip(".")
    if "." not in name or "%" in name or _NUMERIC_HOST.fullmatch(name):
        return False
    return not name.endswith(tuple(f".{inner}" for inner in _INNER_NAMES))
