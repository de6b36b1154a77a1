"""Calls about issuer keys and verifier keys."""

from __future__ import annotations

from ...crypto.issuer_key import IssuerKeys, KeyRecord
from ...crypto.verifier_key import VerifierKeys
from .._requests import keys as key_calls
from .calls import AsyncCalls


class AsyncKeyCalls(AsyncCalls):
    """Calls of KeyService."""

    async def list_keys(self) -> list[KeyRecord]:
        """Return the issuer keys, public halves only."""
        return await self._run(key_calls.list_keys())

    async def verifier_keys(self, issuer_keys: IssuerKeys | None = None) -> VerifierKeys:
        """Return the verifier keys of the server's host, verified; proofs are made for them.

        They must be signed by ``issuer_keys``. None: those that the client was made with, else
        those that the server itself names. Raises UsageError for a key with another signature.
        """
        signed = await self._run(key_calls.verifier_keys())
        known = issuer_keys if issuer_keys is not None else self._prover.issuer_keys
        return self._prover.verify(signed, known if known is not None else await self.jwks())

    async def jwks(self) -> bytes:
        """Return the public issuer keys as a JWK set, JSON."""
        return await self._run(key_calls.jwks())

    async def add_key(self, public_key: bytes = b"", *, owner: str = "", request_id: str = "") -> KeyRecord:
        """Add an issuer key, PREPARED. Without ``public_key`` the server makes a pair of its own."""
        return await self._run(key_calls.add(public_key, owner, request_id))

    async def activate_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Let a prepared key root tokens."""
        return await self._run(key_calls.activate(key_id, request_id))

    async def retire_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Let a key verify its signatures until now, and no later ones."""
        return await self._run(key_calls.retire(key_id, request_id))

    async def distrust_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Deny every token of a key, at once."""
        return await self._run(key_calls.distrust(key_id, request_id))

    async def admit_server(
        self, name: str, *, server_key: bytes, issuer_key: bytes, address: str = "", request_id: str = ""
    ) -> tuple[KeyRecord, KeyRecord]:
        """Have the cluster trust another server, by its public keys (32 bytes each); return both.

        ``address`` (HOST:PORT) is where it can be reached. The first key signs the server's records when it
        leads, the second one roots tokens. Raises Rejected ALREADY_EXISTS if a key is there already,
        NAME_TAKEN if the name has another server key that is active or prepared, NOT_IN_CLUSTER on a single
        host.
        """
        return await self._run(key_calls.admit_server(name, server_key, issuer_key, address, request_id))

    async def remove_host(self, name: str) -> None:
        """Remove a host of the cluster that can't allow calls any more; receipts name it for its bound yet.

        Raises Rejected HOST_ACTIVE while it may allow, NOT_FOUND, NOT_IN_CLUSTER on a single host.
        """
        await self._run(key_calls.remove_host(name))
