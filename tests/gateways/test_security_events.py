"""Statements of identity providers over HTTP: carried as they are, answered once the server has them."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest

from sessauth.client import AsyncClient, Client
from sessauth.gateways import security_events
from sessauth.gateways.http_server import address_of, bind, server_of
from sessauth.gateways.security_events import SecurityEventsApp
from sessauth.model.session import SessionStatus
from tests.server.test_login_sessions import Provider, clock, corp, desk, fault_of, opened, operator, service
from tests.server.test_provider_signals import body, logout, revocation, status
from tests.server.test_security_event_tokens import CAEP, event_token
from tests.support.service import Service

__all__ = ["clock", "corp", "desk", "operator", "service"]


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    """The client of a provider, at a gateway before the server."""
    credential = service.add("signals", "security-events").credential
    target = str(service.made.socket)
    server = server_of(SecurityEventsApp(lambda: AsyncClient(target, credential, timeout_ms=5_000)))
    bound = bind("127.0.0.1:0")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=f"http://{address_of(bound)}", timeout=20, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def test_a_logout_is_answered_once_it_is_durable(
    http: httpx.Client, desk: Client, operator: Client, corp: Provider
) -> None:
    """And again the same; nothing stores the answer."""
    agent = opened(desk, corp.token())
    token = logout(corp)
    for _ in range(2):
        answer = http.post("/logout/corp", data={"logout_token": token, "other": "x"})
        assert (answer.status_code, answer.headers["cache-control"], answer.text) == (200, "no-store", "")
        assert status(operator, agent.id) is SessionStatus.ENDED
    assert fault_of(desk, corp.token()) == "IDENTITY_CUT"


def test_a_revocation_is_answered_without_a_body(
    http: httpx.Client, desk: Client, operator: Client, corp: Provider
) -> None:
    """A user whom nobody knows is cut too, and a stranger learns nothing."""
    agent = opened(desk, corp.token())
    headers = {"authorization": f"Bearer {revocation(corp)}", "content-type": "application/json"}
    assert http.post("/revoke/corp", content=body(), headers=headers).status_code == 204
    assert status(operator, agent.id) is SessionStatus.ENDED
    assert http.post("/revoke/corp", content=body(sub="nobody"), headers=headers).status_code == 204
    assert fault_of(desk, corp.token(sub="nobody")) == "IDENTITY_CUT"


FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}


BAD_REQUESTS: list[tuple[str, bytes, dict[str, str], int]] = [
    ("/logout/corp", b"", FORM, 400),
    ("/logout/corp", b"logout_token=", FORM, 400),
    ("/logout/corp", b"logout_token=a.b.c", FORM, 400),
    ("/logout/corp", b"logout_token=a&logout_token=b", FORM, 400),
    ("/logout/corp", b"logout_token=%ff", FORM, 400),
    ("/logout/corp", b"\xff=a", FORM, 400),
    ("/logout/corp", b"&".join([b"a=b"] * 20), FORM, 400),
    ("/logout/corp", b"logout_token=" + b"a" * 70_000, FORM, 413),
    ("/logout/corp", b"logout_token=" + b"a" * 20_000, FORM, 400),
    ("/logout/corp", b'{"logout_token": "a"}', JSON, 400),
    ("/logout/corp", b"logout_token=a.b.c", {}, 400),
    ("/logout/corp?x=1", b"logout_token=a.b.c", FORM, 400),
    ("/logout/", b"logout_token=a.b.c", FORM, 404),
    ("/logout/a/b", b"logout_token=a.b.c", FORM, 404),
    ("/logout/%0aforged", b"logout_token=a.b.c", FORM, 400),
    ("/ssf/corp", b"", FORM, 404),
    ("/revoke/corp", b"{}", JSON, 401),
    ("/revoke/corp", b"{}", {**JSON, "authorization": "Bearer a.b.c"}, 400),
    ("/revoke/corp", b"{}", {**JSON, "authorization": "Basic a"}, 401),
    ("/revoke/corp", b"{}", {**FORM, "authorization": "Bearer a.b.c"}, 400),
]


def test_a_bad_request_ends_nothing(
    http: httpx.Client, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the provider's fault, so it is told so; no line of the log has more than one line."""
    caplog.set_level(logging.INFO)
    for path, content, headers, code in BAD_REQUESTS:
        answer = http.post(path, content=content, headers=headers)
        assert answer.status_code == code, (path, content[:40])
        assert answer.json()["error"] == "invalid_request"
    assert not operator.list_sessions().sessions
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_pushed_event_is_answered_once_it_is_durable(
    http: httpx.Client, desk: Client, operator: Client, corp: Provider
) -> None:
    """RFC 8935: 202; an error says by its code whose fault it is."""
    agent = opened(desk, corp.token())
    now = corp.clock.now_ms() // 1000
    revoked = f"{CAEP}session-revoked"
    headers = {"content-type": "application/secevent+jwt"}

    def push(token: str) -> tuple[int, str]:
        answer = http.post("/events/corp", content=token.encode(), headers=headers)
        return answer.status_code, answer.json()["err"] if answer.content else ""

    assert push(event_token(revoked, now, aud="https://other.example")) == (400, "invalid_audience")
    assert push(event_token(revoked, now)[:-8] + "AAAAAAAA") == (400, "invalid_key")
    assert push("\u00e9") == (400, "invalid_request")
    assert status(operator, agent.id) is SessionStatus.ACTIVE
    assert push(event_token(revoked, now)) == (202, "")
    assert status(operator, agent.id) is SessionStatus.ENDED
    form = http.post("/events/corp", data={"x": event_token(revoked, now)})
    assert (form.status_code, form.json()["err"]) == (400, "invalid_request")


def test_a_statement_is_sent_with_post(http: httpx.Client) -> None:
    """A link can't send one."""
    answer = http.get("/logout/corp")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_forged_statement_is_refused_by_the_server(
    http: httpx.Client, desk: Client, operator: Client, corp: Provider
) -> None:
    """One word for all faults of trust; of a revocation it is a matter of authentication."""
    agent = opened(desk, corp.token())
    forged = logout(corp)[:-8] + "AAAAAAAA"
    answer = http.post("/logout/corp", data={"logout_token": forged})
    assert answer.status_code == 400 and "IDENTITY_UNTRUSTED" in answer.json()["error_description"]
    headers = {**JSON, "authorization": f"Bearer {revocation(corp)[:-8]}AAAAAAAA"}
    assert http.post("/revoke/corp", content=body(), headers=headers).status_code == 401
    assert status(operator, agent.id) is SessionStatus.ACTIVE


def test_a_server_that_is_away_has_it_sent_again(corp: Provider) -> None:
    """The statement is not lost: the provider, or its operator, is told when to come back."""
    app = SecurityEventsApp(lambda: AsyncClient("/nowhere.sock", "op_x", timeout_ms=200))
    bound = bind("127.0.0.1:0")
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        answer = httpx.post(f"http://{address_of(bound)}/logout/corp", data={"logout_token": logout(corp)})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    finally:
        server.should_exit = True
        thread.join(20)


def test_slow_bodies_hold_no_place(
    http: httpx.Client, corp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that never ends is given up, and others are served meanwhile; too many at once come again."""
    monkeypatch.setattr(security_events, "MAX_IN_FLIGHT", 1)
    monkeypatch.setattr(security_events, "BODY_SECONDS", 1.0)
    with socket.create_connection((http.base_url.host, http.base_url.port or 0), 20) as slow:
        form = urlencode({"logout_token": "a"})
        slow.sendall(
            f"POST /logout/corp HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['content-type']}\r\n"
            f"Content-Length: {len(form) + 1}\r\n\r\n{form}".encode()
        )
        assert http.post("/logout/corp", data={"logout_token": logout(corp)}).status_code == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    monkeypatch.setattr(security_events, "MAX_IN_FLIGHT", 0)
    refused = http.post("/logout/corp", data={"logout_token": logout(corp)})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
