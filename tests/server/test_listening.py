"""TCP ports of a server: whose they are, and at which addresses of a host they are listened on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sessauth.server.transport.native import NativeServer, Receiving


def _server(opened: ExitStack, *, reuse_port: bool = False) -> NativeServer:
    server = NativeServer(lambda rpc: None, Receiving(1_000), slow_reader_seconds=1.0, reuse_port=reuse_port)
    opened.callback(server.stop, 0.0)
    return server


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """A stack of servers that end with the test."""
    with ExitStack() as stack:
        yield stack


def _reached(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=10):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("other", [True, False])
def test_a_port_is_shared_by_workers_alone(opened: ExitStack, other: bool) -> None:
    """Another program can't take a part of the control process's connections."""
    port = _server(opened).add_port("127.0.0.1:0")
    with pytest.raises(OSError, match="in use"):
        _server(opened, reuse_port=other).add_port(f"127.0.0.1:{port}")

    shared = _server(opened, reuse_port=True).add_port("127.0.0.1:0")
    assert _server(opened, reuse_port=True).add_port(f"127.0.0.1:{shared}") == shared


def test_a_name_is_listened_on_at_each_of_its_addresses(opened: ExitStack) -> None:
    """All have one port."""
    here = {"127.0.0.1", "::1"} if socket.has_dualstack_ipv6() else {"127.0.0.1"}
    named = {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    port = _server(opened).add_port("localhost:0")
    assert all(_reached(address, port) for address in named & here)


def test_an_address_that_is_not_here_is_passed_over(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may have one of a family that this host lacks; alone it is refused."""
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    # TEST-NET-1 (RFC 5737): no host has an address of it.
    gone = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))

    def port_of(*found: object) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            return _server(opened).add_port("name:0")

    assert _reached("127.0.0.1", port_of(gone, here))
    assert _reached("127.0.0.1", port_of(here, gone))
    with pytest.raises(OSError, match="assign"):
        port_of(gone)


def test_all_addresses_of_ipv6_are_those_of_ipv4_too(opened: ExitStack) -> None:
    """``[::]`` is reached from both families."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    assert _reached("127.0.0.1", _server(opened).add_port("[::]:0"))
