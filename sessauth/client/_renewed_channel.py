"""A channel that is replaced when its certificate files change."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import grpc

from ..crypto.client_files import ClientCredentials


class RenewedChannel:
    """A channel to one target. Any thread may use it."""

    def __init__(
        self, target: str, credentials: ClientCredentials | None, options: Sequence[tuple[str, Any]]
    ) -> None:
        """Make it, in plain text without credentials; nothing connects yet."""
        self.target = target
        self._credentials = credentials
        self._options = options
        self._lock = threading.Lock()
        self._current = self._open()
        # The one before: calls that are under way end there.
        self._former: grpc.Channel | None = None

    @property
    def current(self) -> grpc.Channel:
        """The channel for the next call."""
        if self._credentials is not None and self._credentials.changed():
            with self._lock:
                if self._former is not None:
                    self._former.close()
                self._former, self._current = self._current, self._open()
        return self._current

    def close(self) -> None:
        """Close it, which ends its calls."""
        with self._lock:
            for channel in (self._former, self._current):
                if channel is not None:
                    channel.close()

    def _open(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.target, self._options)
        credentials = grpc.ssl_channel_credentials(*self._credentials.current)
        return grpc.secure_channel(self.target, credentials, self._options)
