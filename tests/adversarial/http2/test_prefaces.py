"""Connections that don't begin as HTTP/2 does."""

from __future__ import annotations

import ssl
import time

import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer

HTTP_1 = b"POST /sessauth.v1.AuthorizationService/Check HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = HTTP_1[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
# A client has three seconds for its preface and SETTINGS; the server looks twice a second.
HANDSHAKE_SECONDS = 3.0
LATEST_SECONDS = 5.0


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


WRONG = {
    "HTTP/1.1": HTTP_1,
    "an upgrade": UPGRADE,
    "TLS": _client_hello(),
    "zeros": bytes(64),
    "a preface with one wrong byte": h2.PREFACE[:-1] + b"X" + h2.settings(),
    "a preface in lower case": h2.PREFACE.lower(),
    "PING in place of SETTINGS": h2.PREFACE + h2.frame(h2.PING, 0, 0, bytes(8)),
    "SETTINGS of a stream": h2.PREFACE + h2.frame(h2.SETTINGS, 0, 1),
    "SETTINGS of five bytes": h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0, bytes(5)),
    "more settings than are accepted": h2.PREFACE + h2.settings(*[(h2.MAX_STREAMS, 1)] * 33),
    "a window above the limit": h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 1 << 31)),
    "a frame size below the limit": h2.PREFACE + h2.settings((h2.MAX_FRAME_SIZE, 1)),
}
SILENT = {
    "nothing": b"",
    "half a preface": h2.PREFACE[:10],
    "a preface": h2.PREFACE,
    "half of SETTINGS": h2.PREFACE + h2.settings()[:5],
}


@pytest.mark.parametrize("opening", WRONG.values(), ids=WRONG)
def test_a_wrong_beginning_ends_the_connection_at_once(opening: bytes, attacked: AttackedServer) -> None:
    """Nothing is waited for, and nothing is answered but SETTINGS and GOAWAY."""
    with attacked.peer(opening=opening) as peer:
        assert peer.read_end(2.0)
        assert peer.answers == {}


def test_a_preface_in_single_bytes_is_one(attacked: AttackedServer) -> None:
    """A slow beginning is a beginning."""
    with attacked.peer(opening=b"") as peer:
        for byte in h2.PREFACE + h2.settings():
            assert peer.send(bytes([byte]))
        assert attacked.allows(peer)


def test_a_beginning_that_does_not_go_on_is_ended(attacked: AttackedServer) -> None:
    """Silence at any place before SETTINGS: three seconds; and a byte now and then is silence too."""
    peers = [attacked.peer(opening=opening, polite=False) for opening in SILENT.values()]
    slow = attacked.peer(opening=b"", polite=False)
    began = time.monotonic()
    for byte in h2.PREFACE[:6]:
        assert slow.send(bytes([byte]))
        time.sleep(0.45)
    for peer in (*peers, slow):
        assert peer.read_end(LATEST_SECONDS)
        assert HANDSHAKE_SECONDS - 0.1 < time.monotonic() - began < LATEST_SECONDS
        assert peer.answers == {}
        peer.close()
