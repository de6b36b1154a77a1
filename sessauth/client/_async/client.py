"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

from ...crypto.issuer_key import IssuerKeys
from ...tokens.holder import HolderKey
from .._proofs import ProofMaker
from .._requests.sessions import OpenTerms
from .._target import Tls
from .._transport import check_timeout, resolve_endpoint
from .approvals import AsyncApprovalCalls
from .checks import AsyncCheckCalls
from .cluster import AsyncClusterCalls
from .credentials import AsyncCredentialCalls
from .cut_off import AsyncCutOffCalls
from .events import AsyncEventCalls
from .evidence import AsyncEvidenceCalls
from .live_session import AsyncLiveSession
from .sessions import AsyncSessionCalls
from .transport import AsyncTransport
from .usage import AsyncUsageCalls


class AsyncClient(
    AsyncSessionCalls,
    AsyncCheckCalls,
    AsyncApprovalCalls,
    AsyncUsageCalls,
    AsyncEvidenceCalls,
    AsyncEventCalls,
    AsyncClusterCalls,
    AsyncCredentialCalls,
    AsyncCutOffCalls,
):
    """Client of a sessauth server that awaits each answer, at most ``timeout_ms``.

    Every method raises Unauthenticated, PermissionDenied, NotFound, Unavailable (no answer, which
    is never a yes), Rejected (the rules say no, with a stable word) or UsageError (an argument, named).
    Changes carry a request id: made afresh, or given as ``request_id`` to repeat one whose outcome
    is not known. Make and use a client on one event loop; never share it across a fork.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str] | None = None,
        credential: str | None = None,
        *,
        credential_file: Path | None = None,
        tls: Tls | None = None,
        insecure_tcp: bool = False,
        timeout_ms: int = 2000,
        check_target: str | Path | Sequence[str] | None = None,
        holder: HolderKey | None = None,
        issuer_keys: IssuerKeys | None = None,
        trace: bool = False,
    ) -> None:
        """Make a client; nothing connects before the first call.

        Args:
            target: a socket path or HOST:PORT, or those of several servers of a cluster, of which one is
                asked after the other: a sequence, or a text with commas in between. None:
                ``$SESSAUTH_TARGET``, else the default socket.
            credential: the API key. None: from ``credential_file``, else from the file that
                ``$SESSAUTH_CREDENTIAL_FILE`` names, else the operator's beside a local socket.
                Empty: none, as with mTLS.
            credential_file: a file with the API key, not readable by others.
            tls: certificate files; needed for TCP.
            insecure_tcp: permit TCP without TLS, which shows tokens to the network.
            timeout_ms: the deadline of each call, retries included.
            check_target: target of checks, one or several in turn, all on one host. None: ``target``.
            holder: proves the checks of tokens that are bound to it.
            issuer_keys: keys that must have signed the host's verifier keys: a JWK set, public keys or
                KeyRecords. None: the keys that the server itself names.
            trace: send the trace that a call belongs to; needs ``sessauth[tracing]``.

        Raises:
            ConfigError: if these contradict each other or a file can't be read.
        """
        self._timeout_ms = check_timeout(timeout_ms)
        endpoint = resolve_endpoint(target, credential, credential_file, tls, insecure_tcp, check_target)
        self._transport = AsyncTransport(endpoint, trace=trace)
        self._prover = ProofMaker(holder, issuer_keys)

    @asynccontextmanager
    async def session(self, **terms: Unpack[OpenTerms]) -> AsyncIterator[AsyncLiveSession]:
        """Open a session for an ``async with`` block; it ends however the block is left.

        With ``lease_ms`` a task renews the lease while the block runs, and the session ends by
        itself if this process dies. An exception of the block passes through; if the session could
        not be ended then, a note on it says so.
        """
        live = AsyncLiveSession(self, await self.open_session(**terms))
        try:
            yield live
        except BaseException as cause:
            await live._leave(cause)
            raise
        await live.end()
