"""An HTTP server on loopback whose endpoints can misbehave: refuse, redirect, be late or never end."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Misbehaviour:
    """An answer of an endpoint that is not the honest one; without a status the honest one, late."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    delay_s: float = 0.0
    endless: bool = False


class MisbehavingServer:
    """A server of JSON from its construction to `stop`; a subclass gives the honest answers."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen at a free port of 127.0.0.1."""
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            # The handshake is made by the thread of its connection.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        # Requests by method, target and JSON, in the order of their arrival.
        self.requests: list[tuple[str, str, Any]] = []
        self.changed = threading.Condition(threading.RLock())
        self.stopped = threading.Event()
        self._misbehaviours: dict[str, list[Misbehaviour]] = {}
        self._threads: list[threading.Thread] = []
        self.start_thread(self._server.serve_forever, 0.02)

    def start_thread(self, target: Callable[..., Any], *args: Any) -> None:
        """Call something in a thread that `stop` waits for."""
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End all answers and listen no longer."""
        self.stopped.set()
        with self.changed:
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def wait_for(self, condition: Callable[[Self], bool], timeout_s: float = _TIMEOUT_S) -> bool:
        """Return whether a condition on the records becomes true in time."""
        with self.changed:
            return self.changed.wait_for(lambda: condition(self), timeout_s)

    def respond(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return the honest status and JSON of a request; None is no body."""
        raise NotImplementedError

    def misbehave(self, path: str, answer: Misbehaviour, times: int = 1) -> None:
        """Give an endpoint's next requests another answer than the honest one."""
        self._misbehaviours.setdefault(path, []).extend([answer] * times)

    def refuse(self, path: str, status: int, retry_after_s: int | None = None, times: int = 1) -> None:
        """Refuse an endpoint's next requests, as with 500, or with 429 and Retry-After."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self.misbehave(path, Misbehaviour(status, headers), times)

    def redirect(self, path: str, location: str, status: int = 307, times: int = 1) -> None:
        """Send an endpoint's next requests to another address."""
        self.misbehave(path, Misbehaviour(status, {"Location": location}), times)

    def answer_late(self, path: str, delay_s: float, times: int = 1) -> None:
        """Give the honest answer to an endpoint's next requests after a time in seconds."""
        self.misbehave(path, Misbehaviour(delay_s=delay_s), times)

    def answer_huge(self, path: str, size: int, times: int = 1) -> None:
        """Answer an endpoint's next requests with valid JSON of at least ``size`` bytes."""
        self.misbehave(path, Misbehaviour(200, body=b'{"sets":{},"pad":"' + b"a" * size + b'"}'), times)

    def answer_endlessly(self, path: str, pause_s: float = 0.0, times: int = 1) -> None:
        """Answer an endpoint's next requests with a body that never ends, a piece after each pause."""
        endless = Misbehaviour(200, body=b'{"sets":{},"pad":"', delay_s=pause_s, endless=True)
        self.misbehave(path, endless, times)

    def next_misbehaviour(self, method: str, target: str, body: Any) -> Misbehaviour | None:
        """Record a request, and return the misbehaviour that is stated for it, once."""
        with self.changed:
            self.requests.append((method, target, body))
            self.changed.notify_all()
            for path, answers in self._misbehaviours.items():
                if answers and target.startswith(path):
                    return answers.pop(0)
        return None


class _Handler(BaseHTTPRequestHandler):
    """Answers a request by its server; every connection has one request."""

    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    owner: MisbehavingServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def __getattr__(self, name: str) -> Any:
        """Return what answers a request, of any method."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        self.close_connection = True
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = data
        stated = self.owner.next_misbehaviour(self.command, self.path, body)
        # A receiver may leave at any time, as at a body that is too long.
        with suppress(OSError):
            if stated is not None and stated.endless:
                self._never_end(stated)
                return
            if stated is not None:
                self.owner.stopped.wait(stated.delay_s)
            if stated is not None and stated.status:
                self._send(stated.status, stated.headers, stated.body)
                return
            credential = self.headers.get("Authorization") or ""
            status, found = self.owner.respond(self.command, self.path, body, credential)
            with self.owner.changed:
                self.owner.changed.notify_all()
            content = b"" if found is None else json.dumps(found).encode()
            self._send(status, {"WWW-Authenticate": "Bearer"} if status == 401 else {}, content)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes | None) -> None:
        """Send an answer; without content one whose chunks are still to come."""
        stated = {"Content-Type": "application/json", "Connection": "close"}
        if content is None:
            stated["Transfer-Encoding"] = "chunked"
        elif status != 204:
            stated["Content-Length"] = str(len(content))
        self.send_response(status)
        for name, value in {**stated, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content or b"")

    def _never_end(self, stated: Misbehaviour) -> None:
        self._send(stated.status, stated.headers, None)
        content = stated.body
        while not self.owner.stopped.wait(stated.delay_s):
            self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            content = b"a" * 1_024
