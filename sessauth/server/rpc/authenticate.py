"""Authentication: by an API key in the metadata, else by a client certificate.

A certificate that names a part of a cluster is for connections of that part alone: a SPIFFE id in its
alternative names that ends in ``/server/NAME`` or ``/follower/NAME``. The listener has checked the
certificate by ``tcp.client_ca``.

New calls wait in lanes: operators' are admitted first, then those of other known callers, then strangers'.

Failed signatures are limited for each peer. A forger who knows a live session makes the server verify a
signature with every try. Each peer (the principal, and the agent's address as the gateway read it) has a
bucket of failures that refills with time. While it is empty, a token of that peer that was not verified
before is denied before its signatures are verified. Verified tokens, and those of other peers, are checked as
before.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from ...errors import ConfigError, ServerError
from ...model.host import SERVER_PREFIX, credential_digest
from ...state.lmdb.environment import LmdbSource
from ..config import Config
from ..keys.certificates import first_der
from ..keys.credentials import (
    CarriedCredentials,
    CredentialFile,
    CredentialSource,
    Identities,
    Principal,
    WorkerCredential,
    principal_of,
)
from ..status import refused, to_status
from ..transport.rpc import UNIX, Rpc, StatedCaller
from .access import ANYONE, GATEWAY, OPERATOR, RULES, STATEMENT
from .call import Accounting

AUTHORIZATION: Final = "authorization"
BEARER = "bearer "


class Authenticator:
    """Finds the principal of a call among API keys, certificate identities and the server's own workers."""

    def __init__(
        self, credentials: CredentialSource, identities: Identities, workers: WorkerCredential | None = None
    ) -> None:
        self.credentials = credentials
        self.identities = identities
        # Accepts a statement for a method, in a server of a cluster; others accept none.
        self.statements: Callable[[bytes, str], StatedCaller] | None = None
        # Checks the connections that statements come by.
        self.parts = PeerIdentity()
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
        caller = self.statements(stated[0], rpc.method)
        problem = self.parts.problem(rpc, caller.statement.host, by_server=caller.by_follower)
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
            return entry.role == role
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
            return credential_digest(loaded.carried[name])
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
        if entry is None or credential_digest(entry) != digest:
            return False
        known = principal_of(entry)
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


_PART: Final = re.compile(r"spiffe://[^/]+/(?:.*/)?(server|follower)/([^/]+)")


def _part_names(rpc: Rpc) -> frozenset[str]:
    """Return the hosts that the connection's client certificate names; servers as ``server/NAME``."""
    uris = (uri.decode("utf-8", "replace") for uri in rpc.auth_context().get("peer_uri", ()))
    found = filter(None, map(_PART.fullmatch, uris))
    return frozenset(SERVER_PREFIX + part[2] if f"{part[1]}/" == SERVER_PREFIX else part[2] for part in found)


class PeerIdentity:
    """Checks connections of other hosts against a call's statement of its host."""

    def __init__(self, *, required: bool = False) -> None:
        """Object to a certificate that names no part, too, if names are ``required``."""
        self._required = required

    def problem(self, rpc: Rpc, host: str = "", *, by_server: bool = False) -> str:
        """Return "" for a connection of ``host``, or ``by_server`` of one that forwards for it, else why.

        Without a host any part will do. A Unix socket is this machine's.
        """
        if rpc.peer().startswith(UNIX):
            return ""
        names = _part_names(rpc)
        if host in names or (by_server and any(name.startswith(SERVER_PREFIX) for name in names)):
            return ""
        if names and host:
            return f"the client certificate is that of {', '.join(sorted(names))}, not of {host}"
        if self._required and not names:
            return "a client certificate with a SPIFFE id is required, .../server/NAME or .../follower/NAME"
        return ""


# The kernel's numbers (`_fast/http2/stream.pyx`).
STRANGERS: Final = 0
KNOWN: Final = 1
OPERATORS: Final = 2


class Lanes:
    """Finds the lane of a new call by its caller, before the call is made one for Python. Never waits."""

    def __init__(self, authenticator: Authenticator, accounting: Accounting, methods: Iterable[str]) -> None:
        self._authenticator = authenticator
        self._accounting = accounting
        self._guarded = {name.encode(): name for name in methods if ANYONE not in RULES[name].roles}

    def lane_of(self, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None) -> int:
        """Return the lane of a caller.

        A client whose certificate was verified is no stranger. Nobody is one while the credentials can't be
        read.
        """
        try:
            principal = (
                self._authenticator.from_facts(facts or {})
                if authorization is None
                else self._authenticator.from_authorization(authorization)
            )
        except ConfigError:
            return KNOWN
        except ServerError:
            # The router refuses a certificate of two principals.
            principal = None
        if principal is None:
            return KNOWN if facts else STRANGERS
        return OPERATORS if principal.role == OPERATOR else KNOWN

    def counts_refusal(self, path: bytes) -> bool:
        """Count the refusal of a stranger's call; False if the call must go the long way."""
        method = self._guarded.get(path)
        if method is None or self._authenticator.statements is not None:
            return False
        return self._accounting.counts_stranger(method)


def stranger_status() -> tuple[int, str, bytes]:
    """Return the status of a stranger's call: its code, its text, and its google.rpc.Status, encoded."""
    code, status = to_status(refused("UNAUTHENTICATED", ""))
    return code.value[0], status.message, status.SerializeToString()


MAX_PEERS: Final = 10_000


class FailedSignatures:
    """A bucket of failures for each peer; the least recently used buckets are evicted first."""

    def __init__(self, burst: int, per_second: int) -> None:
        """Let a peer fail ``burst`` times at once, and regain ``per_second`` failures each second."""
        self._burst = float(burst)
        self._per_second = float(per_second)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self.gates = Gates(self)

    def exhausted(self, peer: tuple[str, str]) -> bool:
        """Return True if the peer has used up its failures. One lookup for a peer that never failed."""
        if peer not in self._buckets:
            return False
        with self._lock:
            return self._left(peer) < 1.0

    def failed(self, peer: tuple[str, str]) -> None:
        """Take one failure from the peer's bucket."""
        with self._lock:
            left = self._left(peer)
            self._buckets[peer] = (max(0.0, left - 1.0), time.monotonic())
            self._buckets.move_to_end(peer)
            while len(self._buckets) > MAX_PEERS:
                self._buckets.popitem(last=False)

    def _left(self, peer: tuple[str, str]) -> float:
        now = time.monotonic()
        left, at = self._buckets.get(peer, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_second)


@dataclass(frozen=True, slots=True)
class Gate:
    """The buckets of one principal's peers in ``failures``, by the agent's address."""

    failures: FailedSignatures
    principal: str

    def may_fail(self, source: str) -> bool:
        """Return True if signatures may be verified for an agent at ``source``."""
        return not self.failures.exhausted((self.principal, source))

    def failed(self, source: str) -> None:
        """Count a signature that was wrong."""
        self.failures.failed((self.principal, source))


class Gates(dict[str, Gate]):
    """The gate of each principal, made on first use: there are as many as credentials.

    Other hosts of a cluster may state any number of principals, so not all of them are stored.
    """

    def __init__(self, failures: FailedSignatures) -> None:
        super().__init__()
        self._failures = failures

    def __missing__(self, principal: str) -> Gate:
        """Make the gate of a principal."""
        gate = Gate(self._failures, principal)
        if len(self) < MAX_PEERS:
            self[principal] = gate
        return gate
