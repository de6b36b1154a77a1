"""The standing of a host in the log of its cluster, as its process states it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostStanding:
    """A host by the rows of the server that was asked; ``address`` is that of a server.

    A follower that asked this server for a barrier ``age_ms`` ago (``reported``) held record ``number``
    then, and had the alarm ``alarm``, empty without one.
    """

    name: str
    address: str = ""
    reported: bool = False
    age_ms: int = 0
    number: int = 0
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStanding:
    """The end of the log that the folder of ``host`` holds, and the reason its checks are denied for.

    ``alarm`` is a fault, ``brake`` the reason of its brake, ``cluster_brake`` the part of it that every host
    of the cluster has, ``refused_by`` the servers that refuse a follower; each is empty if there is none.
    """

    cluster_id: bytes
    incarnation: bytes
    host: str
    number: int
    digest: bytes
    term: int
    revision: int
    leading: bool
    fresh: bool
    alarm: str = ""
    alarm_message: str = ""
    brake: str = ""
    cluster_brake: str = ""
    refused_by: str = ""
    hosts: tuple[HostStanding, ...] = ()
