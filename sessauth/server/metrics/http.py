"""The page that Prometheus reads: ``GET /metrics`` over HTTP, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from ...errors import ConfigError
from ..sections import host_and_port, is_loopback

# A silent scraper is disconnected; further connections are closed at once.
SILENT_SECONDS: Final = 5.0
MAX_CONNECTIONS: Final = 8

# From an Accept header to the page and its content type.
Render = Callable[[str], tuple[bytes, str]]


class Listener:
    """Answers scrapes at an address. Several threads may call ``render`` at once."""

    def __init__(self, address: str, render: Render) -> None:
        """Listen, and answer nothing yet. Raises ConfigError if the address is not available."""
        host, port = host_and_port(address)
        try:
            self._server = _server(host, port, render)
        except OSError as error:
            raise ConfigError(f"metrics.address: {address} can't be listened on: {error.strerror}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="sessauth-metrics", daemon=True
        )

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _server(host: str, port: int, render: Render) -> ThreadingHTTPServer:
    # Against DNS rebinding: a page of another site could scrape by a name, but not by an address.
    names = {host, "localhost", "127.0.0.1", "::1"} if is_loopback(host) else None

    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT_SECONDS
        server_version = "sessauth"
        sys_version = ""

        def do_GET(self) -> None:
            stated = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
            if self.path.partition("?")[0] != "/metrics" or (names is not None and stated not in names):
                self.send_error(404)
                return
            try:
                page, kind = render(self.headers.get("Accept", ""))
            except Exception:  # noqa: BLE001 - logged by render(); the scraper gets an error
                self.send_error(500)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing: a scrape is no event."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False
        free = threading.BoundedSemaphore(MAX_CONNECTIONS)

        def process_request(self, request: Any, client_address: Any) -> None:
            if self.free.acquire(blocking=False):
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.free.release()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore a scraper that disconnected; a page that can't be made is logged by ``render``."""

    return Server((host, port), Handler)
