"""Calls about the callers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from .._requests import credentials as credential_calls
from .._results import ListedCredential
from .calls import AsyncCalls


class AsyncCredentialCalls(AsyncCalls):
    """Calls of CredentialService. On a single host each raises Rejected NOT_IN_CLUSTER."""

    async def list_credentials(self) -> list[ListedCredential]:
        """Return the callers of the cluster, then those of the asked host's own file."""
        return await self._run(credential_calls.list_all())

    async def add_credential(
        self, name: str, role: str, secret_hash: bytes, *, audiences: Sequence[str] = (), request_id: str = ""
    ) -> int:
        """Let a caller call every host of the cluster; return the revision at which it may.

        Args:
            name: 1 to 64 letters, digits, '.' or '-'. Rejected ALREADY_EXISTS if it is taken.
            role: operator, issuer, gateway, auditor, approver or follower.
            secret_hash: the BLAKE2b-256 of a secret of 32 random bytes.
            audiences: those that a gateway may check for; empty: any.
            request_id: a repeat of one returns the first outcome.
        """
        return await self._run(credential_calls.add(name, role, secret_hash, audiences, request_id))

    async def remove_credential(self, name: str, *, request_id: str = "") -> int:
        """Refuse all calls of a caller, on every host; return the revision at which they are.

        Raises NotFound, and Rejected LAST_OPERATOR for the cluster's last operator.
        """
        return await self._run(credential_calls.remove(name, request_id))
