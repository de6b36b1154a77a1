"""Calls of other servers of a cluster, by the settings of this host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .context import Settings

if TYPE_CHECKING:
    from ..model.standing import ClusterStanding


def own_process(settings: Settings) -> Callable[[], ClusterStanding]:
    """Return a function that asks the process of this host. It raises SessauthError."""

    def ask() -> ClusterStanding:
        with settings.client() as client:
            return client.cluster_standing()

    return ask


def peer(settings: Settings) -> Callable[[str], ClusterStanding]:
    """Return a function that asks the server at an address, as the operator of this host.

    Options of TLS in front of the command count before the settings of ``[cluster]`` and ``[follow]``. It
    raises SessauthError.
    """
    config = settings.config()
    stated = settings.tls or settings.tls_ca or settings.tls_certificate or settings.insecure_tcp
    authority = config.cluster.server_ca or config.follow.server_ca
    changed = replace(settings)
    if not stated and authority:
        changed.tls_ca = config.path(authority)
        for part in (config.cluster, config.follow, config.tcp):
            if part.certificate and part.private_key:
                changed.tls_certificate = config.path(part.certificate)
                changed.tls_key = config.path(part.private_key)
                break
    elif not stated:
        changed.insecure_tcp = config.tcp.insecure_tcp or config.follow.insecure_tcp
        changed.tls = not changed.insecure_tcp
    if changed.credential_file is None:
        beside = config.home / "operator.credential"
        changed.credential_file = beside if beside.exists() else None

    def ask(address: str) -> ClusterStanding:
        with replace(changed, target=address).client() as client:
            return client.cluster_standing()

    return ask
