"""Connections between parts of a cluster: a client certificate that names a part is that part's alone.

A SPIFFE id in the certificate's alternative names that ends in ``/server/NAME`` or ``/follower/NAME`` names a
part. The listener has checked the certificate by ``tcp.client_ca``.
"""

from __future__ import annotations

import re
from typing import Final

from ...model.host import SERVER_PREFIX
from ..transport.rpc import Rpc

_PART: Final = re.compile(r"spiffe://[^/]+/(?:.*/)?(server|follower)/([^/]+)")
_UNIX: Final = "unix:"


def part_names(rpc: Rpc) -> frozenset[str]:
    """Return the hosts that the connection's client certificate names; servers as ``server/NAME``."""
    uris = (uri.decode("utf-8", "replace") for uri in rpc.auth_context().get("peer_uri", ()))
    found = filter(None, map(_PART.fullmatch, uris))
    return frozenset(SERVER_PREFIX + part[2] if f"{part[1]}/" == SERVER_PREFIX else part[2] for part in found)


class Parts:
    """Checks connections of other hosts against a call's statement of its host."""

    def __init__(self, *, required: bool = False) -> None:
        """Object to a certificate that names no part, too, if names are ``required``."""
        self._required = required

    def problem(self, rpc: Rpc, host: str = "", *, by_server: bool = False) -> str:
        """Return "" for a connection of ``host``, or ``by_server`` of one that forwards for it, else why.

        Without a host any part will do. A Unix socket is this machine's.
        """
        if rpc.peer().startswith(_UNIX):
            return ""
        names = part_names(rpc)
        if host in names or (by_server and any(name.startswith(SERVER_PREFIX) for name in names)):
            return ""
        if names and host:
            return f"the client certificate is that of {', '.join(sorted(names))}, not of {host}"
        if self._required and not names:
            return "a client certificate with a SPIFFE id is required, .../server/NAME or .../follower/NAME"
        return ""
