"""Delivery of a stream by pushes (RFC 8935): one event after the other, again until it is taken."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from ...errors import StateError, UsageError
from ...server.identity.key_sets import read_object
from .receivers import EventReceiver, Network
from .stream import EventStreamState, WaitingEvent

TIMEOUT_SECONDS: Final = 10.0
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
LONGEST_RETRY_SECONDS: Final = 3_600.0
MAX_ANSWER_BYTES: Final = 16 * 1024
_log: Final = logging.getLogger("sessauth.gateways.event_transmitter")


class EventPusher(threading.Thread):
    """Pushes the events of one stream until the stream ends."""

    def __init__(
        self, stream: EventStreamState, receiver: EventReceiver, sign: Callable[[WaitingEvent], str]
    ) -> None:
        super().__init__(name=f"sessauth-push-{stream.terms.stream_id[:8]}", daemon=True)
        self._stream, self._receiver, self._sign = stream, receiver, sign

    def run(self) -> None:
        """Push until the stream ends.

        The pause doubles with each failure, and is at least what the receiver asks for.
        """
        pause_s, stream, name = FIRST_PAUSE_SECONDS, self._stream, self._receiver.name
        while not stream.stop.is_set():
            if not stream.wait(lambda: bool(stream.waiting(1)[0]), LONGEST_PAUSE_SECONDS):
                continue
            try:
                least_s = self._push()
            except Exception as error:  # noqa: BLE001 - what was not taken is pushed again
                text = str(error) if isinstance(error, UsageError) else type(error).__name__
                _log.warning("an event for %a was not taken: %s", name, text)
                least_s = 0.0
            if least_s is None:
                pause_s = FIRST_PAUSE_SECONDS
                continue
            stream.stop.wait(max(pause_s, least_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_SECONDS)

    def _push(self) -> float | None:
        """Push the first event; returns None if it is done with, else the least pause that is asked for.

        Raises OSError, HTTPException, and UsageError for an address that is not permitted.
        """
        stream, name = self._stream, self._receiver.name
        events, _ = stream.waiting(1)
        if not events:
            return None
        address = stream.terms.endpoint
        if address not in self._receiver.push:
            raise UsageError("its address is not one of the file of receivers any more")
        headers = {
            "Content-Type": "application/secevent+jwt",
            "Accept": "application/json",
            "Connection": "close",
        }
        if stream.terms.authorization:
            headers["Authorization"] = stream.terms.authorization
        connection = _connect(address, self._receiver.networks, self._receiver.ca_file)
        try:
            connection.request("POST", urlsplit(address).path or "/", self._sign(events[0]), headers)
            answer = connection.getresponse()
            status, retry = answer.status, answer.getheader("retry-after", "")
            body = answer.read(MAX_ANSWER_BYTES) if status == 400 else b""
        finally:
            connection.close()
        if 200 <= status < 300:
            stream.settle([events[0].jti])
            return None
        code = _error_code(body)
        if code == "invalid_request":
            # It is never taken. Other faults are of keys and settings, which change.
            _log.error("the event %s was refused by %a: %s", events[0].jti, name, code)
            stream.settle([events[0].jti])
            return None
        _log.warning("an event for %a was not taken: status %d %s", name, status, code)
        stated = float(retry) if retry.isdecimal() and len(retry) < 6 else 0.0
        return min(stated, LONGEST_RETRY_SECONDS)


def _error_code(body: bytes) -> str:
    try:
        code = read_object(body, MAX_ANSWER_BYTES).get("err")
    except StateError:
        return ""
    return json.dumps(code)[1:-1][:64] if isinstance(code, str) else ""


def _connect(address: str, networks: tuple[Network, ...], ca_file: str) -> HTTPConnection:
    """Return a connection to a host of a permitted network: that which was looked up is connected to."""
    parts = urlsplit(address)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    permitted = [each[4][:2] for each in found if _is_permitted(str(each[4][0]), networks)]
    if not permitted:
        raise UsageError("its address is of no public network; list the network in the file of receivers")
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    plain = socket.create_connection((str(permitted[0][0]), port), TIMEOUT_SECONDS)
    try:
        if secure:
            tls = ssl.create_default_context(cafile=ca_file or None)
            connection.sock = tls.wrap_socket(plain, server_hostname=host)
        else:
            connection.sock = plain
    except (OSError, ValueError, HTTPException):
        plain.close()
        raise
    return connection


def _is_permitted(text: str, networks: tuple[Network, ...]) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    is_public = address.is_global and not address.is_multicast
    return is_public or any(address in network for network in networks)
