"""Authentication: by an API key in the metadata, else by a client certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, Self

from ...errors import ConfigError
from ...state.lmdb.environment import LmdbSource
from ..config.config import Config
from ..keys.carried_credentials import CarriedCredentials
from ..keys.certificates import first_der
from ..keys.credentials import CredentialFile, CredentialSource, Principal, WorkerCredential
from ..keys.identities import Identities
from ..status import refused
from ..transport.rpc import Rpc, StatedCaller
from .access import GATEWAY, OPERATOR, STATEMENT
from .parts import Parts

AUTHORIZATION: Final = "authorization"
BEARER = "bearer "
UNIX: Final = "unix:"


class AcceptsStatements(Protocol):
    """Accepts callers that other hosts of the cluster state."""

    def accept(self, data: bytes, method: str) -> StatedCaller:
        """Return the caller of a statement. Raises UNAUTHENTICATED."""
        ...


class Authenticator:
    """Finds the principal of a call among API keys, certificate identities and the server's own workers."""

    def __init__(
        self,
        credentials: CredentialSource,
        identities: Identities,
        workers: WorkerCredential | None = None,
    ) -> None:
        """Accept the keys of ``credentials``, the certificates of ``identities``, and ``workers``."""
        self.credentials = credentials
        self.identities = identities
        # A server of a cluster has one; others accept no statement.
        self.statements: AcceptsStatements | None = None
        # Checks the connections that statements come by.
        self.parts = Parts()
        self._workers = workers

    @classmethod
    def of(
        cls, config: Config, workers: WorkerCredential | None = None, carried: LmdbSource | None = None
    ) -> Self:
        """Return one for the files that ``config`` names, and the credentials of a cluster in ``carried``.

        Raises ConfigError if the files contradict each other.
        """
        file = config.credentials_file
        credentials = CredentialFile(file) if carried is None else CarriedCredentials(file, carried)
        return cls(credentials, Identities(config, credentials), workers)

    def read_again(self) -> int:
        """Read the credentials again, and return how many there are. Raises ConfigError."""
        self.credentials.file.fresh_until = self.credentials.fresh_until = 0.0
        return len(self.credentials.current().entries)

    def from_statement(self, rpc: Rpc) -> StatedCaller | None:
        """Return the caller that another host of the cluster states; None if none is stated.

        Raises UNAUTHENTICATED for one that is not accepted, for any on a Unix socket, and beside an API key.
        """
        stated = [value for name, value in rpc.metadata if name == STATEMENT]
        if not stated:
            return None
        keys = any(name == AUTHORIZATION for name, _ in rpc.metadata)
        local = rpc.peer().startswith(UNIX)
        if self.statements is None or keys or local or len(stated) > 1 or not isinstance(stated[0], bytes):
            raise refused("UNAUTHENTICATED", "a statement of a caller is not accepted here")
        caller = self.statements.accept(stated[0], rpc.method)
        problem = self.parts.problem(rpc, caller.host, by_server=caller.by_follower)
        if problem:
            raise refused("UNAUTHENTICATED", f"the caller's statement was not accepted: {problem}")
        return caller

    def is_principal(self, name: str, role: str) -> bool:
        """Return True if an API key or a certificate of a caller has this name and role now."""
        try:
            entry = self.credentials.current().entries.get(name)
        except ConfigError:
            return False
        if entry is not None:
            return entry.principal.role == role
        known = self.identities.known()
        principals = (*known.by_uri.values(), *known.by_thumbprint.values())
        return any((principal.name, principal.role) == (name, role) for principal in principals)

    def credential_of(self, name: str) -> bytes:
        """Return the digest of a caller's credential in the cluster, empty if only this host has one.

        Raises UNAUTHENTICATED for a caller of neither, STATE_UNUSABLE.
        """
        try:
            loaded = self.credentials.current()
        except ConfigError as error:
            raise refused("STATE_UNUSABLE", str(error)) from error
        if name in loaded.carried:
            return loaded.carried[name].digest
        if name in loaded.entries or any(entry.name == name for entry in self.identities.entries):
            return b""
        raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")

    def has_credential(self, principal: Principal, digest: bytes) -> bool:
        """Return True if the cluster's credential of that digest is the caller's now.

        A request of an operator to a worker is forwarded as a gateway's call.
        """
        try:
            entry = self.credentials.current().carried.get(principal.name)
        except ConfigError:
            return False
        if entry is None or entry.digest != digest:
            return False
        known = entry.principal
        as_gateway = Principal(known.name, GATEWAY, known.audiences)
        return principal == known or (known.role == OPERATOR and principal == as_gateway)

    def from_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> Principal | None:
        """Return the principal of the ``authorization`` entry; None if there is no entry.

        Raises UNAUTHENTICATED for one that is wrong, and for two: a proxy and the server could each use
        another one. Raises STATE_UNUSABLE while the file can't be read.
        """
        found: str | bytes | None = None
        for name, value in metadata:
            if name == AUTHORIZATION:
                if found is not None:
                    raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                found = value
        if found is None:
            return None
        text = credential_of_entry(found)
        if text is not None:
            try:
                principal = self._from_text(text)
            except ConfigError as error:
                raise refused("STATE_UNUSABLE", str(error)) from error
            if principal is not None:
                return principal
        raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")

    def accepted_before(self, authorization: bytes) -> Principal | None:
        """Return the principal of an ``authorization`` entry accepted before, or None."""
        if authorization[: len(BEARER)].lower() != BEARER.encode():
            return None
        return self.credentials.accepted_before(authorization[len(BEARER) :])

    def from_authorization(self, authorization: bytes) -> Principal | None:
        """Return the principal of the only ``authorization`` entry of a call; None for one that is wrong.

        Raises ConfigError while the credentials can't be read.
        """
        text = credential_of_entry(authorization.decode("latin-1"))
        return None if text is None else self._from_text(text)

    def _from_text(self, text: str) -> Principal | None:
        if self._workers is not None and text.isascii() and self._workers.is_text(text):
            return self._workers.principal
        return self.credentials.authenticate(text)

    def from_certificate(self, rpc: Rpc) -> Principal | None:
        """Return the principal of the verified client certificate, or None.

        Raises UNAUTHENTICATED for one that belongs to two.
        """
        return self.from_facts(rpc.auth_context()) if self.identities.known() else None

    def from_facts(self, facts: Mapping[str, Sequence[bytes]]) -> Principal | None:
        """Return the principal of a verified certificate by its facts. See :meth:`from_certificate`."""
        known = self.identities.known()
        uris = {uri.decode("utf-8", "replace") for uri in facts.get("peer_uri", ())}
        pems = facts.get("x509_pem_cert", ()) if known.by_thumbprint else ()
        return known.principal_of(uris, certificate_thumbprint(pems[0]) if pems else "")

    def require(self, rpc: Rpc, principal: Principal | None, authenticated_by: object) -> object:
        """Authenticate a call's caller again. Return the table that it is found in now.

        With an API key that is ``authenticated_by``. Raises UNAUTHENTICATED if the caller is no longer
        ``principal``, and STATE_UNUSABLE.
        """
        found = self.from_metadata(rpc.metadata)
        if found is None:
            known = self.identities.known()
            if known is authenticated_by:
                return known
            found, authenticated_by = self.from_certificate(rpc), known
        if found is None or found != principal:
            raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
        return authenticated_by


def credential_of_entry(value: str | bytes | None) -> str | None:
    """Return the text after ``Bearer`` and one space in an ``authorization`` entry; None if it has none."""
    if isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
        return value[len(BEARER) :]
    return None


def certificate_thumbprint(pem: bytes) -> str:
    """Return ``sha256:HEX`` over the first certificate's DER; empty if there is none."""
    der = first_der(pem)
    return f"sha256:{hashlib.sha256(der).hexdigest()}" if der else ""
