"""IP addresses, CIDRs, URLs and e-mail addresses (sections 4, 6.4 and 6.9 of the format)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_LENGTH = re.compile(r"(?:0|[1-9][0-9]{0,2})\Z")
_PORT = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,255})://([^/?#]*)([/?#].*)?\Z")
_DOUBTFUL = re.compile(r"[^\x21-\x7e]|[\\\"<>^`{|}]")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}\Z")
_MAILBOX = re.compile(r"(?=[^@]{1,64}@)[A-Za-z0-9_'&+-]+(?:\.[A-Za-z0-9_'&+-]+)*@(.*)\Z", re.DOTALL)
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _address(text: str) -> Address | None:
    if "%" in text or not text.isascii():
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_ip(text: str) -> Address | None:
    """An address; IPv4 inside IPv6 (``::ffff:0:0/96``) gives the IPv4 one. None: not an address."""
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_cidr(text: str) -> Network | None:
    """A CIDR as section 4 writes it, else None."""
    host, slash, length = text.partition("/")
    address = _address(host)
    if not slash or address is None or not _LENGTH.match(length) or int(length) > address.max_prefixlen:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None and int(length) >= 96:
        return None
    kind = ipaddress.IPv4Network if address.version == 4 else ipaddress.IPv6Network
    try:
        return kind((int(address), int(length)))
    except ValueError:
        return None


def in_cidr(address: Address, text: str) -> bool:
    """Return True if the address is in the CIDR ``text``, which is well-formed."""
    network = parse_cidr(text)
    return network is not None and address.version == network.version and address in network


class Url(NamedTuple):
    """The parts of a URL. ``port`` None: neither written nor implied; ``path`` as written."""

    scheme: str
    host: str
    port: int | None
    path: str


def _host(text: str) -> str | None:
    if text.startswith("["):
        inner = text[1:-1]
        address = _address(inner) if text.endswith("]") else None
        if not isinstance(address, ipaddress.IPv6Address):
            return None
        return inner.lower() if address.ipv4_mapped is None else str(address.ipv4_mapped)
    labels = text.split(".")
    if not _HOST.match(text) or "" in labels:
        return None
    if labels[-1].isdigit() or labels[-1][:2].lower() == "0x":
        return text if isinstance(_address(text), ipaddress.IPv4Address) else None
    return text.lower()


def parse_url(text: str) -> Url | None:
    """A URL as section 6.4 admits it, else None."""
    match = _URL.match(text)
    if match is None or _DOUBTFUL.search(text):
        return None
    scheme, authority, rest = match[1].lower(), match[2], match[3] or ""
    path = rest.partition("#")[0].partition("?")[0]
    if "@" in authority or "%" in authority:
        return None
    # The colons of an IPv6 address are inside its brackets.
    head, colon, tail = authority.rpartition(":")
    if not colon or "]" in tail:
        host, port_text = _host(authority), None
    else:
        host, port_text = _host(head), tail
    if host is None:
        return None
    if port_text is None:
        return Url(scheme, host, _DEFAULT_PORTS.get(scheme), path)
    if not _PORT.match(port_text) or int(port_text) > 65535:
        return None
    return Url(scheme, host, int(port_text), path)


def mail_domain(text: str) -> str | None:
    """The domain of an e-mail address as section 6.4 admits it, else None."""
    match = _MAILBOX.match(text)
    domain = None if match is None or match[1].startswith("[") else _host(match[1])
    return None if domain is None or _address(domain) is not None else domain
