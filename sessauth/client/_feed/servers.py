"""The servers that a host may follow, one at a time: one that fails or is silent is left for the next."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from ...crypto.client_files import ClientCredentials, ClientFiles
from ...errors import PermissionDenied, Rejected, SessauthError, Unauthenticated
from ...state.replication.carrier import CarrierError
from .._failures import Failure
from .._renewed_channel import RenewedChannel
from .._target import Tls, is_local, machine_authorities
from .._transport import Endpoint, resolve_endpoint

# A server's reasons to refuse a host, and the setting to look at.
_KNOBS: Final = {
    "NOT_IN_CLUSTER": "follow.servers",
    "OTHER_HOST": "follow.host_name, follow.certificate",
    "NAME_TAKEN": "follow.host_name",
    "LIMIT": "follow.host_name",
}
SETTINGS: Final = "follow.certificate, follow.private_key, follow.server_ca"


class FeedRefused(CarrierError):
    """A server that answers refuses this host, and will again: by its credential, or as a single host.

    ``knob`` is the setting to look at, ``server`` the address.
    """

    def __init__(self, server: str, knob: str, message: str) -> None:
        """Keep the setting and the server."""
        super().__init__(f"{server}: {message}")
        self.server, self.knob = server, knob


def refusal_of(server: str, error: SessauthError) -> FeedRefused | None:
    """Return the refusal that an error of a server is; None if another attempt may succeed."""
    word = error.word if isinstance(error, Rejected) else getattr(error, "reason", "")
    knob = _KNOBS.get(word)
    if knob is None and isinstance(error, Unauthenticated | PermissionDenied):
        knob = "follow.credential"
    return None if knob is None else FeedRefused(server, knob, str(error))


class FeedServer:
    """One server, and its channel."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Make the channel; nothing connects yet. Raises ConfigError if certificate files can't be used."""
        self.target = endpoint.target
        self._endpoint = endpoint
        self._metadata = endpoint.metadata
        self._channel = self.connect()

    def connect(self, options: Sequence[tuple[str, Any]] = ()) -> RenewedChannel:
        """Return a channel of its own to this server, with further options. The caller closes it.

        Raises ConfigError if the certificate files can't be used.
        """
        credentials, tls = None, self._endpoint.tls
        if tls is not None and not is_local(self.target):
            files = ClientFiles(tls.authority or machine_authorities(), tls.certificate, tls.key)
            credentials = ClientCredentials(files, SETTINGS)
        return RenewedChannel(self.target, credentials, [*self._endpoint.options(), *options])

    def unary(
        self,
        method: str,
        request: Any,
        answer: Any,
        timeout_seconds: float,
        *,
        service: str = "FeedService",
    ) -> Any:
        """Call a unary RPC of FeedService, or of another ``service``. Raises SessauthError."""
        call = self._channel.current.unary_unary(
            f"/sessauth.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.error(error, timeout_seconds) from None

    def stream(self, method: str, request: Any, answer: Any, timeout_seconds: float) -> Any:
        """Open a stream of FeedService; its iteration raises grpc.RpcError."""
        call = self._channel.current.unary_stream(
            f"/sessauth.v1.FeedService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=timeout_seconds, metadata=self._metadata)

    def error(self, error: grpc.RpcError, timeout_seconds: float) -> SessauthError:
        """Return the error of a call that failed."""
        failure = Failure.read(error)  # type: ignore[arg-type]
        return failure.error(target=self.target, timeout_ms=int(timeout_seconds * 1000))

    def close(self) -> None:
        """Close the channel, which ends its calls."""
        self._channel.close()


class FeedServers:
    """All servers of a host's settings, and the one that it follows."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Follow any of them first, so that hosts spread over the servers."""
        self._servers = [FeedServer(endpoint) for endpoint in endpoints]
        random.shuffle(self._servers)
        self._lock = threading.Lock()
        self._at = 0

    @classmethod
    def resolve(
        cls,
        targets: Sequence[str],
        *,
        credential_file: Path | None = None,
        tls: Tls | None = None,
        insecure_tcp: bool = False,
    ) -> FeedServers:
        """Return the servers at ``targets``. Raises ConfigError as a client's constructor does."""
        # No credential of an operator that lies beside a socket.
        credential = None if credential_file is not None else ""
        return cls(
            [
                resolve_endpoint(target, credential, credential_file, tls, insecure_tcp, None)
                for target in targets
            ]
        )

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self._servers)

    @property
    def current(self) -> FeedServer:
        """The server that is followed now."""
        return self._servers[self._at]

    def all(self) -> list[FeedServer]:
        """Return all servers."""
        return list(self._servers)

    @property
    def targets(self) -> str:
        """The addresses of all, for messages."""
        return ", ".join(sorted(server.target for server in self._servers))

    def connect(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> RenewedChannel:
        """Return a further channel to one of these servers; raises CarrierError for another target."""
        for server in self._servers:
            if server.target == target:
                return server.connect(options)
        raise CarrierError(f"{target} is none of the servers of this host")

    def leave(self, server: FeedServer) -> None:
        """Follow the next server, unless another thread left this one before."""
        with self._lock:
            if self.current is server:
                self._at = (self._at + 1) % len(self._servers)

    def close(self) -> None:
        """Close all channels."""
        for server in self._servers:
            server.close()
