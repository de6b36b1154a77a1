"""Principals of client certificates, from ``[[identities]]``, reloaded when the settings change."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ...errors import ConfigError
from ..config.config import Config, load, stamp_of
from ..config.sections import Identity
from ..log import event
from ..status import refused
from .credentials import RELOAD_SECONDS, CredentialSource, Principal


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrincipals:
    """The identities at one moment, by URI and by thumbprint; replaced together when the file changes.

    There are two tables: a certificate may name any URI, also one that reads like a thumbprint.
    """

    by_uri: Mapping[str, Principal]
    by_thumbprint: Mapping[str, Principal]

    def __bool__(self) -> bool:
        """Return whether any certificate is known."""
        return bool(self.by_uri or self.by_thumbprint)

    def principal_of(self, uris: Iterable[str], thumbprint: str) -> Principal | None:
        """Return the principal of a verified certificate, None if it has none.

        Raises UNAUTHENTICATED for a certificate of two.
        """
        found = {self.by_uri[uri] for uri in uris if uri in self.by_uri}
        if thumbprint in self.by_thumbprint:
            found.add(self.by_thumbprint[thumbprint])
        if len(found) > 1:
            names = ", ".join(sorted(principal.name for principal in found))
            raise refused("UNAUTHENTICATED", f"the certificate is that of several identities: {names}")
        return found.pop() if found else None


def _known(identities: Iterable[Identity]) -> KnownPrincipals:
    by_uri: dict[str, Principal] = {}
    by_thumbprint: dict[str, Principal] = {}
    for entry in identities:
        principal = Principal(entry.name, entry.role, entry.audiences)
        if entry.uri:
            by_uri[entry.uri] = principal
        else:
            by_thumbprint[entry.thumbprint.lower()] = principal
    return KnownPrincipals(by_uri, by_thumbprint)


class Identities:
    """The identities of the settings' file. A file that can't be read changes nothing; it is logged."""

    def __init__(self, config: Config, credentials: CredentialSource) -> None:
        """Begin with those of ``config``. Raises ConfigError if a name is that of an API key of the file."""
        self._home = config.home
        self._stamp = config.file_stamp
        self._credentials = credentials
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._entries = self._checked(config.identities)
        # The credentials of the cluster that ``_now`` was made beside.
        self._beside = credentials.loaded.carried
        self._now = self._known(self._beside)

    def known(self) -> KnownPrincipals:
        """Return the identities of the file, at most 200 ms old, without names that the cluster has."""
        # Settings that came from no file have none that could change.
        if self._stamp is not None and time.monotonic() >= self._fresh_until:
            with self._lock:
                stamp = stamp_of(self._home)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._read()
                self._fresh_until = time.monotonic() + RELOAD_SECONDS
        # After the file: its first entries are new to the cluster's names.
        if self._entries:
            self._respect_cluster()
        return self._now

    @property
    def entries(self) -> tuple[Identity, ...]:
        """The entries that count now."""
        self.known()
        return self._entries

    def read_again(self) -> tuple[Identity, ...]:
        """Read the file again, and return the entries that count now."""
        self._fresh_until = 0.0
        return self.entries

    def _read(self) -> None:
        try:
            entries = self._checked(load(self._home).identities)
        except ConfigError as error:
            event(logging.ERROR, "identities_not_reloaded", error=str(error))
            return
        before, self._entries = set(self._entries), entries
        if before != set(entries):
            self._now = self._known(self._beside)
            event(
                logging.INFO,
                "identities_reloaded",
                added=sorted(entry.name for entry in set(entries) - before),
                removed=sorted(entry.name for entry in before - set(entries)),
            )

    def _respect_cluster(self) -> None:
        """Make the identities again if the credentials of the cluster are others than before."""
        # While they can't be read, those of before count.
        with suppress(ConfigError):
            beside = self._credentials.current().carried
            if beside is not self._beside:
                with self._lock:
                    self._now = self._known(beside)
                    self._beside = beside

    def _known(self, beside: Mapping[str, object]) -> KnownPrincipals:
        """Return the entries without those that share a name with a credential of the cluster.

        Two callers of one name would reach each other's sessions.
        """
        names = sorted({entry.name for entry in self._entries} & beside.keys())
        if names:
            event(logging.ERROR, "identities_refused", names=names)
        return _known(entry for entry in self._entries if entry.name not in beside)

    def _checked(self, entries: tuple[Identity, ...]) -> tuple[Identity, ...]:
        names: set[str] = set()
        if entries:
            self._credentials.fresh_until = 0.0
            loaded = self._credentials.current()
            names = loaded.entries.keys() - loaded.carried.keys()
        for index, entry in enumerate(entries):
            if entry.name in names:
                raise ConfigError(
                    f"identities[{index}].name: {entry.name} is the name of an API key; choose another, or "
                    "remove that one with 'sessauth credential remove'"
                )
        return entries
