"""A watched stream: its requests, and the withdrawals to send on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from ...verifier.verifier import Verifier
from ..rpc.call import CallContext
from ..status import refused
from .watchlist import Watched, Watchlist, Withdrawal, weight_of


class WatchedStream:
    """The requests and the withdrawals of a stream, for the one thread that answers it.

    gRPC hands requests to a waiting thread one by one, so a thread of its own reads them, at most one ahead;
    it ends with the call. Errors (:meth:`fail`) and withdrawals come from other threads, which never wait.
    """

    def __init__(
        self, requests: Iterator[bytes], call: CallContext, verifier: Verifier, max_calls: int, max_bytes: int
    ) -> None:
        """Watch up to ``max_calls`` calls, which take up to ``max_bytes``. Reads nothing yet."""
        self.watchlist = Watchlist(verifier, self._withdraw)
        self._requests = requests
        self._call = call
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._arrived: bytes | None = None
        self._withdrawn: list[Withdrawal] = []
        self._no_more = False
        self._error: BaseException | None = None
        self._closed = False
        # Watched calls, and those whose withdrawal was not sent yet. Of the answering thread.
        self._open = 0

    def start(self) -> None:
        """Start reading. Raises OVERLOADED if no thread can be started, CANCELLED if the call is over."""
        if not self._call.context.add_callback(self._on_call_over):
            raise refused("CANCELLED", "the call is over")
        reader = threading.Thread(target=self._read, name="sessauth-watched-stream", daemon=True)
        try:
            reader.start()
        except RuntimeError:
            raise refused("OVERLOADED", "no thread to read a watched stream; retry later") from None

    def close(self) -> None:
        """Read nothing more. The reading thread ends with the call."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Have the answering thread raise ``error``; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    def require_caller(self) -> None:
        """Raise if the deadline passed, or if the credential of the stream is no longer accepted."""
        self._call.raise_if_expired()
        self._call.require_accepted(self._call)

    def has_room(self, request_bytes: int) -> bool:
        """Return True if another call may be watched, by the size of its request."""
        weight = self.watchlist.weight + weight_of(request_bytes)
        return self._open < self._max_calls and weight <= self._max_bytes

    def watch(self, watched: Watched) -> None:
        """Watch a call."""
        self._open += 1
        self.watchlist.add(watched)

    def unwatch(self, stream_id: int) -> list[Withdrawal]:
        """Stop watching a call; returns the withdrawals that were not sent yet."""
        if self.watchlist.remove(stream_id):
            self._open -= 1
        with self._changed:
            return self._take_withdrawn()

    def next(self) -> bytes | list[Withdrawal] | None:
        """Wait for the next request, or for withdrawals; None once there can be neither.

        Raises the error that ended the stream.
        """
        with self._changed:
            while True:
                if self._withdrawn:
                    return self._take_withdrawn()
                if self._error is not None:
                    raise self._error
                if self._arrived is not None:
                    data, self._arrived = self._arrived, None
                    self._changed.notify_all()
                    return data
                if self._no_more and not self._open:
                    return None
                self._changed.wait()

    def _take_withdrawn(self) -> list[Withdrawal]:
        withdrawn, self._withdrawn = self._withdrawn, []
        self._open -= len(withdrawn)
        return withdrawn

    def _withdraw(self, withdrawn: Sequence[Withdrawal]) -> None:
        with self._changed:
            self._withdrawn += withdrawn
            self._changed.notify_all()

    def _on_call_over(self) -> None:
        """Fail the stream; gRPC calls this when the call is over, however it ended."""
        self.fail(refused("CANCELLED", "the call is over"))

    def _read(self) -> None:
        """Read requests until there are no more, or the stream is closed."""
        try:
            for data in self._requests:
                with self._changed:
                    while self._arrived is not None and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._arrived = data
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - the answering thread raises it
            self.fail(error)
            return
        with self._changed:
            self._no_more = True
            self._changed.notify_all()
