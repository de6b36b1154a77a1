"""The verifier: checks calls in this process, by the kernel, against a state on the same host.

    with Verifier.embedded("/var/lib/sessauth/state", audience="gateway-1") as verifier:
        decision = verifier.check(token, "read", "mcp/github/get_commit", b'{"owner":"acme"}')
        decision.raise_if_denied()

Every call is a new check. Every check that starts after the server acknowledged a change sees that change.
Loads neither grpc nor protobuf, unless it is given a server.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self, overload

from .._fast._check import Prepared
from .base import DEFAULT_CACHE_BYTES, BaseVerifier
from .cost_judge import ServerAccess
from .opening import open_verifier

if TYPE_CHECKING:
    from pathlib import Path

    from ..audit.write.stream import AuditOptions
    from .server_backed import ServerBackedVerifier

__all__ = ["DEFAULT_CACHE_BYTES", "DEFAULT_STALENESS_MS", "Prepared", "Verifier"]

# The time for which a gateway may be without its server, and for which its death may keep receipts open.
DEFAULT_STALENESS_MS = 10_000


class Verifier(BaseVerifier):
    """Checks calls by a source of state; one for each process, for any number of threads."""

    @overload
    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        audit: AuditOptions | None = None,
    ) -> Self: ...
    @overload
    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        server: str | os.PathLike[str],
        credential: str | None = None,
        credential_file: Path | None = None,
        timeout_ms: int = 2_000,
        audit: AuditOptions | None = None,
        report_usage: bool = False,
        register_as: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> ServerBackedVerifier: ...

    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        server: str | os.PathLike[str] | None = None,
        credential: str | None = None,
        credential_file: Path | None = None,
        timeout_ms: int = 2_000,
        audit: AuditOptions | None = None,
        report_usage: bool = False,
        register_as: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> BaseVerifier:
        """Open a server's state folder read-only and check by it.

        The process needs to be in the folder's group and on the server's host. A child that was forked since
        opens another: in it this one denies everything (docs/embedding.md).
        Without ``server`` no server is called, and calls that cost something are denied.

        Args:
            state_dir: the server's state folder.
            audience: the name of this verifier.
            cache_bytes: memory for verified chains, in bytes.
            server: the server's socket, where costs of calls are charged (``verifier.server_backed``).
            credential: the gateway's API key for it, or ``credential_file``, not readable by others.
            credential_file: see ``credential``.
            timeout_ms: time for which one call may wait for the server.
            audit: record this verifier's decisions in an audit stream of its own (docs/recording.md). The
                server records its own decisions.
            report_usage: report the use of sessions here to the server (:mod:`sessauth.usage.collector`).
            register_as: register with the server under this name, one process a name. Receipts of sessions
                that end then cover this verifier too (docs/receipts.md).
            staleness_ms: deny every call ``STALE_STATE`` when the registration could not be renewed for so
                long: 1000 to 60000.

        Raises:
            StateUnusable: naming the fault of the folder.
            ConfigError: if ``server`` or its credential, or the folder of ``audit``, can't be used.
            KeyFolderError: if a key in that folder can't be used.
            UsageError: for ``report_usage`` or ``register_as`` without ``server``, and for a name or bound
                that the server refuses.
            Rejected: NAME_TAKEN if another verifier has the name, OTHER_STATE if ``state_dir`` is not the
                server's.
            PermissionDenied: if the credential's role may not register; Unauthenticated if it is none.
        """
        kind: type[BaseVerifier] = cls
        access = None
        if server is not None:
            from .server_backed import ServerBackedVerifier

            kind = ServerBackedVerifier
            access = ServerAccess.resolve(server, credential, credential_file, timeout_ms)
        return open_verifier(
            kind,
            state_dir,
            audience=audience,
            cache_bytes=cache_bytes,
            server=access,
            audit=audit,
            report_usage=report_usage,
            register_as=register_as,
            staleness_ms=staleness_ms,
        )
