"""Checking calls here and preparing the request to a server: the part that both forms share.

A call that does not end in stage ``needs`` is checked in this process, as by any embedded verifier. Costs
that only the writer of the state can charge are requested from the server, with the gateway's own credential.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from .._fast._check import CostClaims, Prepared
from ..errors import StateError, UsageError
from ..limits import MAX_PERMIT_MS, MAX_RETRY_ID_BYTES
from ..reasons import Reason
from ..tokens.token import Token
from .base import BaseVerifier
from .registration import RegistrationLoop, StateProbe

if TYPE_CHECKING:
    from ..client import AsyncClient, Client
    from ..decisions.decision import Decision

_RETRY_ID_BYTES: Final = 16


class _AskServerPolicy:
    """Charges nothing, so that the server is asked. A call without costs passes, unless ``also_free``."""

    def __init__(self, *, also_free: bool) -> None:
        self._also_free = also_free

    def charge(self, claims: CostClaims) -> int:
        return Reason.NEEDS_SERVER if self._also_free or len(claims) else 0


# Ends a check before its proof is used up: the server will need it.
_IF_IT_COSTS: Final = _AskServerPolicy(also_free=False)
_ALWAYS: Final = _AskServerPolicy(also_free=True)


class CostJudge(BaseVerifier):
    """A verifier that leaves the costs of calls to a server, and is registered with it where asked."""

    _client: Client | None = None
    _registration: RegistrationLoop | None = None

    def attach_client(self, client: Client | None) -> None:
        """Use ``client`` for calls that block, and close it with the verifier."""
        self._client = client

    def register_as(self, name: str, source: StateProbe, staleness_ms: int) -> None:
        """Register with the server under ``name``, until the verifier is closed.

        ``source`` is this verifier's source of state. Raises as :meth:`Verifier.embedded` says.
        """
        from ..client._verifier_channel import VerifierChannel

        client = self.require_client()
        channel = VerifierChannel(client.with_timeout(max(100, staleness_ms // 4)))
        registration = RegistrationLoop(self.view, source, channel.register, name, staleness_ms)
        registration.start()
        self._registration = registration

    @property
    def registered(self) -> bool:
        """True if the server counts on this verifier, by its latest answer."""
        return self._registration is not None and self._registration.registered

    def require_client(self) -> Client:
        """Return the attached client.

        Raises:
            UsageError: if the verifier has no server.
            StateError: in a child that was forked since: the connections are the parent's.
        """
        if self.inherited:
            raise StateError("the verifier was opened before this process was forked; open it again here")
        if self._client is None:
            raise UsageError("server: the verifier was opened without one")
        return self._client

    def judge(
        self,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: bytes,
        retry_id: bytes,
        permit_ms: int,
        options: dict[str, Any],
    ) -> Decision:
        """Check a call. A denial at stage ``needs`` is not recorded: the server is asked next.

        Raises:
            UsageError: for a retry id or a permit beyond its limit.
        """
        cost_handler = None
        if permit_ms or retry_id:
            _check_limits(retry_id, permit_ms)
            cost_handler = _ALWAYS if permit_ms or options["proof"] else _IF_IT_COSTS
        return self._check(
            token, action, resource, arguments, cost_handler=cost_handler, record_needs=False, **options
        )

    def server_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a check that the server needs; it uses its own time."""
        names = ("arguments", "tool", "session", "source", "peer", "proof", "at_least_revision")
        given = {name: options[name] for name in names if options.get(name)}
        audience = options.get("audience")
        return {**given, "audience": self.audience if audience is None else audience}

    def batch_options(self, parts: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return the server's options for one call of a batch; ``parts`` are those after the resource."""
        names = ("arguments", "tool", "session", "source", "peer", "proof")
        return self.server_options({**options, **dict(zip(names, parts, strict=False))})

    def close(self) -> None:
        """Leave the server's registry, report the rest, and close all that was opened; deny later checks.

        In a child that was forked since, nothing is done, as in :meth:`BaseVerifier.close`.
        """
        if self.inherited:
            return
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        super().close()
        if self._client is not None:
            self._client.close()


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """A server's address, and a gateway's own credential for it."""

    target: str
    credential: str = field(repr=False)
    timeout_ms: int

    @classmethod
    def resolve(
        cls,
        server: str | os.PathLike[str],
        credential: str | None,
        credential_file: Path | None,
        timeout_ms: int,
    ) -> Self:
        """Read the credential.

        Raises:
            ConfigError: if ``server`` or the file can't be used.
            UsageError: if no credential is given: the operator's, beside the socket, is not for gateways.
        """
        from ..client._target import resolve_credential, resolve_target

        if credential is None and credential_file is None:
            raise UsageError("credential: give credential= or credential_file=, of the gateway's role")
        target = resolve_target(os.fspath(server))
        return cls(target, resolve_credential(credential, credential_file, target), timeout_ms)

    def client(self) -> Client:
        """Return a new client that blocks."""
        from ..client import Client

        return Client(self.target, self.credential, timeout_ms=self.timeout_ms)

    def async_client(self) -> AsyncClient:
        """Return a new client for the running event loop."""
        from ..client import AsyncClient

        return AsyncClient(self.target, self.credential, timeout_ms=self.timeout_ms)


def new_retry_id() -> bytes:
    """Return an id under which the transport may repeat a call after a lost answer: it is charged once."""
    return secrets.token_bytes(_RETRY_ID_BYTES)


def sendable(token: bytes | str | Token | Prepared) -> bytes | str | Token:
    """Return a token in a form that a client sends."""
    return token.data if isinstance(token, Prepared) else token


def _check_limits(retry_id: bytes, permit_ms: int) -> None:
    if len(retry_id) > MAX_RETRY_ID_BYTES:
        raise UsageError(f"retry_id: at most {MAX_RETRY_ID_BYTES} bytes, not {len(retry_id)}")
    if not 0 <= permit_ms <= MAX_PERMIT_MS:
        raise UsageError(f"permit_ms: {permit_ms} is not between 0 and {MAX_PERMIT_MS}")
