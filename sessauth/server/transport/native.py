"""The server of calls: its sockets, its loop over libnghttp2, and calls whose message has not come yet.

Checks of known callers and verified tokens are answered on the loop itself (``rpc/pipeline.py``). Every other
call becomes an :class:`~sessauth.server.transport.rpc.Rpc`.

Such calls hold neither a thread nor a place in a pool. They are bounded in number,
in time, and in the bytes of their messages: of one principal's calls in one pool at most
:data:`MAX_RECEIVING` are received at once, and the others wait for those.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from ... import limits
from ..._fast._codec import DirectCaller
from ..._fast._http2 import Loop, NativeCall, TlsContext
from ...errors import ConfigError
from ..config import Config
from ..keys.certificates import Certificates
from ..log import event, fault
from ..rpc.authenticate import Lanes
from ..rpc.pool import PoolShare, do_nothing
from ..sections import host_and_port
from ..status import invalid, refused
from .rpc import UNIX, Rpc, cancelled_error

BACKLOG: Final = 1024
# For answers to calls that were cancelled at the end.
LAST_EVENTS_SECONDS: Final = 0.05
# The pause after a fault of the loop itself.
RETRY_SECONDS: Final = 0.05
ANY_IPV6: Final = "::"
# A name has an address of a family that this host lacks.
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Direct(Protocol):
    """Finds the callers whose checks are answered on the loop."""

    @property
    def paths(self) -> Sequence[bytes]:
        """The full names of the RPCs that may be."""
        ...

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        """Return the caller of an RPC, None if the call is to be accepted as any other."""
        ...

    def generation(self) -> int:
        """Return a number that changes when a caller that was admitted may be one no longer."""
        ...


class NativeServer:
    """A server whose calls take a thread when their message has come.

    One thread polls. Nothing that it calls may wait.
    """

    def __init__(
        self,
        accept: Callable[[Rpc], None],
        receiving: Receiving,
        *,
        slow_reader_seconds: float,
        certificate_facts: Callable[[bytes], Mapping[str, Sequence[bytes]]] | None = None,
        direct: Direct | None = None,
        lanes: Lanes | None = None,
        refusal: tuple[int, str, bytes] | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Prepare to call ``accept`` for each new call that is not answered directly.

        ``lanes`` tells whose calls go first; by default none do. A stranger's call ends with ``refusal``
        where the lanes count it. With ``reuse_port`` other processes may listen on the same ports. Raises
        OSError if libnghttp2 can't be loaded.
        """
        self._accept, self._receiving = accept, receiving
        self._reuse_port = reuse_port
        self.loop = Loop(
            self._on_call,
            partial(fault, "loop"),
            direct=direct,
            direct_paths=() if direct is None else direct.paths,
            certificate_facts=certificate_facts,
            lane_of=None if lanes is None else lanes.lane_of,
            counts_refusal=None if lanes is None else lanes.counts_refusal,
            refusal=refusal,
            max_message=MAX_REQUEST_BYTES,
            max_headers=MAX_METADATA_BYTES,
            slow_reader_seconds=slow_reader_seconds,
        )
        receiving.hurry = self.loop.wake
        self._ended = threading.Event()
        self._started = False
        # The files of the Unix sockets that are listened on.
        self._sockets: list[str] = []
        # When every call is cancelled, on the monotonic clock; None: it does not stop yet.
        self._stop_at: float | None = None
        # The time of the last poll, on the monotonic clock.
        self.polled_at = 0.0

    def add_port(self, address: str, tls: Callable[[], TlsContext] | None = None) -> int:
        """Listen on ``unix:PATH`` or ``HOST:PORT``; returns the port, 1 for a path. Raises OSError.

        A host's name is listened on at each of its addresses. ``tls()`` returns the context for a new
        connection.
        """
        if address.startswith(UNIX):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            path = address[len(UNIX) :]
            try:
                listener.bind(path)
                listener.listen(BACKLOG)
            except OSError:
                listener.close()
                raise
            self.loop.listen(listener, tls)
            self._sockets.append(path)
            return 1
        host, _, stated = address.rpartition(":")
        port = 0
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(stated), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for place, (family, _, _, _, name) in enumerate(found):
            try:
                listener = socket.create_server(
                    # A port that the system chose is that of the others too.
                    (name[0], port or name[1]),
                    family=family,
                    backlog=BACKLOG,
                    reuse_port=self._reuse_port,
                    dualstack_ipv6=name[0] == ANY_IPV6 and len(found) == 1,
                )
            except OSError as error:
                if error.errno in NOT_HERE and (port or place + 1 < len(found)):
                    continue
                raise
            self.loop.listen(listener, tls)
            port = int(listener.getsockname()[1])
        return port

    def start(self) -> None:
        """Begin to accept calls."""
        self._started = True
        self.polled_at = time.monotonic()
        threading.Thread(target=self._serve, name="sessauth-loop", daemon=True).start()

    def stop(self, grace_seconds: float) -> threading.Event:
        """Accept no more calls, cancel the rest after the grace; returns an event that is set at the end.

        The files of Unix sockets are removed first: once nobody listens there, another server may have put
        its own socket in the place.
        """
        while self._sockets:
            Path(self._sockets.pop()).unlink(missing_ok=True)
        if not self._started:
            self.loop.stop_listening()
            self._ended.set()
        elif self._stop_at is None:
            self._stop_at = time.monotonic() + grace_seconds
            self.loop.wake()
        return self._ended

    def _serve(self) -> None:
        loop, receiving = self.loop, self._receiving
        while True:
            try:
                now = time.monotonic()
                receiving.expire(now)
                if self._stop_at is not None:
                    if not loop.stopping:
                        loop.stop()
                    if now >= self._stop_at or not loop.connections:
                        break
                loop.poll(min(receiving.pause, RETRY_SECONDS) if loop.stopping else receiving.pause)
            except Exception as error:  # noqa: BLE001 - tried again; if it stays, polled_at shows it
                fault("loop", error)
                time.sleep(RETRY_SECONDS)
                continue
            self.polled_at = now
        loop.close()
        # The cancelled calls are notified.
        loop.poll(LAST_EVENTS_SECONDS)
        self._ended.set()

    def _on_call(self, call: NativeCall) -> None:
        rpc = Rpc(call)
        try:
            self._accept(rpc)
        except Exception as error:  # noqa: BLE001 - becomes the status of the call
            fault("accept", error)
            rpc.refuse(error)


# One principal's calls in one pool: a message may have 12 MiB, and its parts stay in memory.
MAX_RECEIVING: Final = 16
# The calls of all principals. Beyond it each principal may have one more.
MAX_WAITING: Final = 4_096
POLL_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.5
# A call without a message was cancelled if its end is reported within this time.
CANCEL_SECONDS: Final = 0.02


class Receiving:
    """The calls of one server that wait for their message. Only the polling thread calls it."""

    def __init__(self, receive_ms: int) -> None:
        """Refuse calls whose message has not come within ``receive_ms``."""
        self.waiting = 0
        self._within_ms = receive_ms
        self._shares: set[PoolShare[Rpc]] = set()
        self._empty: deque[tuple[float, Rpc]] = deque()
        # Called when `pause` may be shorter than before.
        self.hurry: Callable[[], None] = do_nothing
        self._expire_at = 0.0

    @property
    def pause(self) -> float:
        """Seconds after which :meth:`expire` is due."""
        if self._empty:
            return CANCEL_SECONDS
        return POLL_SECONDS if self.waiting else IDLE_SECONDS

    def begin(self, rpc: Rpc) -> None:
        """Begin to wait for the message of a call, or refuse the call."""
        share = rpc.plan.share
        if share.full:
            self._refuse_full(rpc)
        elif share.waiting >= share.limit or (self.waiting >= MAX_WAITING and share.waiting):
            rpc.plan.refuse(rpc, refused("OVERLOADED", f"too many calls {_wait(share)}; retry later"))
        else:
            self.waiting += 1
            self._shares.add(share)
            if share.behind or len(share.receiving) >= MAX_RECEIVING:
                share.behind.append(rpc)
                self._receive_next(share, time.monotonic())
            else:
                share.receiving[rpc] = None
                rpc.receive()

    def deliver(self, rpc: Rpc, message: bytes | None) -> None:
        """Submit a call with its message, None if there is none, to its pool."""
        share = rpc.plan.share
        del share.receiving[rpc]
        self.waiting -= 1
        if share.behind:
            self._receive_next(share, time.monotonic())
        if message is None:
            self._empty.append((time.monotonic() + CANCEL_SECONDS, rpc))
            self.hurry()
        else:
            self._submit(rpc, message)

    def drop(self, rpc: Rpc, error: Exception) -> None:
        """Refuse a call whose message has come."""
        self._drop(rpc, error)
        self._receive_next(rpc.plan.share, time.monotonic())

    def expire(self, now: float) -> None:
        """Refuse calls whose message has not come in time; ``now`` is of the monotonic clock."""
        while self._empty and (self._empty[0][1].ended or now >= self._empty[0][0]):
            self._end_empty(self._empty.popleft()[1])
        if now < self._expire_at:
            return
        self._expire_at = now + POLL_SECONDS
        for share in list(self._shares):
            while share.receiving:
                oldest = next(iter(share.receiving))
                if now < oldest.accepted_at + self._within_ms / 1000:
                    break
                text = f"its message did not come within {self._within_ms} ms (limits.receive_ms)"
                self._drop(oldest, refused("DEADLINE_EXCEEDED", text))
            self._receive_next(share, now)
            if not share.waiting:
                self._shares.discard(share)

    def _receive_next(self, share: PoolShare[Rpc], now: float) -> None:
        """Begin to receive waiting calls, in place of calls whose patience is over."""
        while share.behind:
            if len(share.receiving) >= MAX_RECEIVING:
                oldest = next(iter(share.receiving))
                if now < oldest.receiving_since + share.patience:
                    return
                self._drop(oldest, refused("OVERLOADED", f"later calls {_wait(share)}; retry later"))
            rpc = share.behind.popleft()
            if rpc.ended:
                self.waiting -= 1
                rpc.plan.refuse(rpc, cancelled_error())
            else:
                rpc.receiving_since = now
                share.receiving[rpc] = None
                rpc.receive()

    def _drop(self, rpc: Rpc, error: Exception) -> None:
        del rpc.plan.share.receiving[rpc]
        self.waiting -= 1
        rpc.plan.refuse(rpc, error)

    def _end_empty(self, rpc: Rpc) -> None:
        if rpc.ended:
            rpc.plan.refuse(rpc, cancelled_error())
        elif rpc.plan.streams:
            self._submit(rpc, None)
        else:
            rpc.plan.refuse(rpc, invalid("request", "one message is needed, none was sent"))

    def _submit(self, rpc: Rpc, message: bytes | None) -> None:
        share = rpc.plan.share
        if share.full:
            self._refuse_full(rpc)
            return
        try:
            share.pool.submit(share, rpc.plan.run, rpc, message)
        except RuntimeError:
            rpc.plan.refuse(rpc, refused("OVERLOADED", "no thread for the call; retry later"))

    @staticmethod
    def _refuse_full(rpc: Rpc) -> None:
        share = rpc.plan.share
        part = "is full" if share.pool.full else "has half of its places taken by this caller"
        rpc.plan.refuse(rpc, refused("OVERLOADED", f"the {share.pool.name} pool {part}; retry later"))


def _wait(share: PoolShare[Rpc]) -> str:
    return f"of this caller wait for their messages in the {share.pool.name} pool"


# A batch of 1024 items with tokens of 8 KiB is 8 MiB; arguments share the rest.
MAX_REQUEST_BYTES: Final = 12 << 20
MAX_METADATA_BYTES: Final = 2 * limits.MAX_TOKEN_BYTES
# ``sun_path`` without its final zero.
MAX_SOCKET_PATH_BYTES: Final = 107


def bind_unix(server: NativeServer, path: Path) -> None:
    """Listen on a Unix socket of mode 0660, replacing one without a listener.

    Raises ConfigError if the path is too long, is something else, or is in use.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"server.run_dir: {path} is longer than a socket's path may be (107 bytes)")
    _remove_stale(path)
    # The file is born with its mode: between bind and chmod it would be open to others.
    before = os.umask(0o117)
    try:
        server.add_port(f"unix:{path}")
    except OSError as error:
        raise ConfigError(f"{path}: can't be listened on: {error}") from error
    finally:
        os.umask(before)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: is in the way and no socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}; remove it if no server uses it") from error
    raise ConfigError(f"{path}: another server listens there")


def bind_problem(address: str) -> str:
    """Return why HOST:PORT can't be listened on; empty if it can. Binds without listening."""
    try:
        host, port = host_and_port(address)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, ValueError, ConfigError) as error:
        # ValueError: a name that can be none of a host.
        return getattr(error, "strerror", None) or str(error)
    return ""


def bind_tcp(server: NativeServer, config: Config, address: str, setting: str) -> int:
    """Listen on TCP with TLS, or without if ``insecure_tcp`` says so; returns the port.

    ``setting`` is the one that states the address. Raises ConfigError if a certificate file can't be read or
    the address can't be had.
    """
    try:
        if config.tcp.insecure_tcp:
            event(
                logging.WARNING,
                "insecure_tcp",
                address=address,
                meaning="credentials and tokens travel in the clear; anyone who sees them can use them",
            )
            return server.add_port(address)
        certificates = Certificates(config)
        certificates.context()
        if problem := certificates.problem():
            raise ConfigError(f"tcp.certificate, tcp.private_key: TLS can't be served natively: {problem}")
        return server.add_port(address, certificates.context)
    except (OSError, ValueError) as error:
        problem = bind_problem(address) or str(error)
        raise ConfigError(f"{setting}: {address} can't be listened on: {problem}") from error
