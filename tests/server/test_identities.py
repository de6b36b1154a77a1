"""Identities of client certificates, and their removal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.errors import ConfigError
from sessauth.server.config import load
from sessauth.server.keys.credentials import RELOAD_SECONDS, CredentialFile
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.rpc.authenticate import certificate_thumbprint
from sessauth.v1 import event_service_pb2 as events
from sessauth.v1 import key_service_pb2 as keys
from tests.support.authority import NEEDS_OPENSSL, Authority
from tests.support.service import Caller, RpcError, home_folder, wait_until

pytestmark = NEEDS_OPENSSL

TCP = """
[tcp]
address = "127.0.0.1:0"
certificate = "server.pem"
private_key = "server.key"
client_ca = "ca.pem"
"""
ENTRY = '[[identities]]\nname = "{}"\nrole = "{}"\n{} = "{}"\n'


class CertificateServer:
    """A home folder with a CA and settings in a file, and a server that serves by them."""

    def __init__(self, home: Path) -> None:
        """Make the folder; :meth:`start` serves."""
        self.home = home
        self.made = initialise(home)
        self.authority = Authority(home, "ca")
        self.authority.sign("server", "DNS:localhost,IP:127.0.0.1")
        self.control: Control | None = None
        self.callers: list[Caller] = []

    def write(self, *entries: str) -> None:
        """Replace the settings."""
        new = self.home / "sessauth.toml.new"
        new.write_text(TCP + "".join(entries))
        new.replace(self.home / "sessauth.toml")

    def start(self) -> None:
        """Serve."""
        self.control = Control(load(self.home, {}))
        self.control.start()

    def caller(self, name: str, alternative: str) -> Caller:
        """Return a caller with a new certificate."""
        certificate, key = self.authority.sign(name, alternative)
        return self.with_pair(certificate, key)

    def with_pair(self, certificate: Path, key: Path) -> Caller:
        """Return a caller with a certificate that is there."""
        assert self.control is not None
        root = self.authority.certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
        target = f"localhost:{self.control.tcp_port}"
        self.callers.append(Caller(target, channel_credentials=credentials, timeout=20.0))
        return self.callers[-1]


@pytest.fixture
def server() -> Iterator[CertificateServer]:
    """A server, closed behind the test."""
    with home_folder() as home:
        made = CertificateServer(home)
        yield made
        for caller in made.callers:
            caller.close()
        if made.control is not None:
            made.control.stop()


def _outcome(caller: Caller) -> str:
    try:
        caller.call("KeyService/ListKeys", keys.ListKeysRequest())
    except RpcError as error:
        return error.code.name
    return "OK"


def _until(caller: Caller, outcome: str) -> bool:
    return wait_until(lambda: _outcome(caller) == outcome, 10.0)


def test_a_uri_that_reads_like_a_thumbprint_is_no_thumbprint(server: CertificateServer) -> None:
    """A certificate that names another's thumbprint as its URI is nobody; the other one is the operator."""
    pair = server.authority.sign("operator", "DNS:operator.example")
    thumbprint = certificate_thumbprint(pair[0].read_bytes())
    server.write(ENTRY.format("op", "operator", "thumbprint", thumbprint))
    server.start()

    assert _outcome(server.with_pair(*pair)) == "OK"
    assert _outcome(server.caller("thief", f"URI:{thumbprint}")) == "UNAUTHENTICATED"


def test_a_certificate_of_two_identities_is_nobody(
    server: CertificateServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Two known URIs in one certificate are refused, and the log names both identities."""
    server.write(
        ENTRY.format("a", "auditor", "uri", "spiffe://x/a"), ENTRY.format("b", "issuer", "uri", "https://x/b")
    )
    server.start()

    with caplog.at_level("INFO", "sessauth.server"):
        assert _outcome(server.caller("both", "URI:spiffe://x/a,URI:https://x/b")) == "UNAUTHENTICATED"
    assert _outcome(server.caller("one", "URI:https://x/b,URI:https://x/c")) == "OK"

    refusals = [getattr(each, "fields", {}) for each in caplog.records if each.message == "refused"]
    assert [each["why"] for each in refusals] == ["the certificate is that of several identities: a, b"]


def test_a_name_of_an_api_key_is_refused_at_the_start(server: CertificateServer) -> None:
    """A name in the log must be one caller's."""
    CredentialFile(server.made.state_dir / "credentials.toml").add("twin", "gateway")
    server.write(ENTRY.format("twin", "operator", "uri", "spiffe://x/twin"))

    with pytest.raises(ConfigError, match=r"identities\[0\].name: twin is the name of an API key"):
        server.start()


def test_identities_follow_their_file(server: CertificateServer, caplog: pytest.LogCaptureFixture) -> None:
    """One that is added is known, one that is taken away is refused, without a restart; the log says so."""
    a, b = (ENTRY.format(name, "auditor", "uri", f"spiffe://x/{name}") for name in "ab")
    server.write(a)
    server.start()
    callers = {name: server.caller(name, f"URI:spiffe://x/{name}") for name in "ab"}
    assert [_outcome(callers[name]) for name in "ab"] == ["OK", "UNAUTHENTICATED"]

    with caplog.at_level("INFO", "sessauth.server"):
        server.write(b)
        assert _until(callers["a"], "UNAUTHENTICATED")
        assert _outcome(callers["b"]) == "OK"
        server.write()
        assert _until(callers["b"], "UNAUTHENTICATED")

    told = [getattr(each, "fields", {}) for each in caplog.records if each.message == "identities_reloaded"]
    assert told == [{"added": ["b"], "removed": ["a"]}, {"added": [], "removed": ["b"]}]


@pytest.mark.parametrize(
    "broken", ["[server\n", "[server]\nworker = 1\n", ENTRY.format("x", "root", "uri", "u")]
)
def test_a_broken_file_keeps_the_last_good_one(
    server: CertificateServer, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """Known identities stay, the log has an error that names the key, and the next good file counts."""
    server.write(ENTRY.format("a", "auditor", "uri", "spiffe://x/a"))
    server.start()
    caller = server.caller("a", "URI:spiffe://x/a")
    assert _outcome(caller) == "OK"

    with caplog.at_level("INFO", "sessauth.server"):
        server.write(broken)
        said = "identities_not_reloaded"
        assert wait_until(lambda: _outcome(caller) != "OK" or said in caplog.messages, 10.0)
        assert _outcome(caller) == "OK"
    assert [each.levelname for each in caplog.records if each.message == said] == ["ERROR"]

    server.write()
    assert _until(caller, "UNAUTHENTICATED")


def test_streams_of_a_removed_identity_end(server: CertificateServer) -> None:
    """A watch that is open when its certificate's identity is taken away ends UNAUTHENTICATED."""
    server.write(*(ENTRY.format(name, "auditor", "uri", f"spiffe://x/{name}") for name in "ab"))
    server.start()
    ended: dict[str, Any] = {}
    began = threading.Barrier(3)

    def follow(name: str) -> None:
        request = iter([events.WatchSessionsRequest()])
        stream = server.caller(name, f"URI:spiffe://x/{name}").stream("EventService/WatchSessions", request)
        next(stream)
        began.wait(30)
        try:
            for _ in stream:
                continue
        except RpcError as error:
            ended[name] = error.code.name

    threads = [threading.Thread(target=follow, args=(name,), daemon=True) for name in "ab"]
    for thread in threads:
        thread.start()
    began.wait(30)
    assert not ended

    server.write(ENTRY.format("b", "auditor", "uri", "spiffe://x/b"))

    assert wait_until(lambda: "a" in ended, 15.0)
    time.sleep(0.5)
    assert ended == {"a": "UNAUTHENTICATED"}


def test_an_identity_that_is_removed_while_a_message_comes_is_refused(server: CertificateServer) -> None:
    """A call whose headers came before the change is judged by the identities of now."""
    server.write(*(ENTRY.format(name, "auditor", "uri", f"spiffe://x/{name}") for name in "ab"))
    server.start()
    removed = threading.Event()

    def late() -> Iterator[bytes]:
        removed.wait(30)
        yield b""

    callers = [server.caller(name, f"URI:spiffe://x/{name}") for name in "ab"]
    calls = [
        caller.channel.stream_unary("/sessauth.v1.KeyService/ListKeys").future(late(), timeout=30)
        for caller in callers
    ]
    assert server.control is not None
    receiving = server.control.serving._server._receiving
    assert wait_until(lambda: receiving.waiting == 2)
    server.write(ENTRY.format("b", "auditor", "uri", "spiffe://x/b"))
    time.sleep(2 * RELOAD_SECONDS)
    removed.set()

    assert [call.code().name for call in calls] == ["UNAUTHENTICATED", "OK"]
