"""Streams of security events from a transmitter that can lie: polled, pushed, refused, and silent."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock
from urllib.error import HTTPError

import httpx
import pytest

from sessauth.client import AsyncClient, Client
from sessauth.errors import Rejected, ServerError, Unavailable, UsageError
from sessauth.gateways import security_events
from sessauth.gateways.http_server import address_of, bind, server_of
from sessauth.gateways.security_events import EventPoller, SecurityEventsApp
from sessauth.model.change import Rejection
from sessauth.model.session import Session, SessionStatus
from sessauth.server.identity.event_streams import EventStreams
from tests.server.test_login_sessions import MINUTE_MS, Provider, clock, corp, fault_of, opened
from tests.server.test_provider_signals import status
from tests.server.test_security_event_tokens import CAEP, event_token
from tests.support.cases import CASES
from tests.support.identity_tokens import ISSUER, SERVICE
from tests.support.interop_server import free_port
from tests.support.security_event_tokens import LIES, iss_sub
from tests.support.service import Service, running, wait_until
from tests.support.ssf_transmitter import POLL_PATH, SsfTransmitter, ssf_transmitter

__all__ = ["clock", "corp"]
ANN = iss_sub(ISSUER, "ann")
SILENCE_MS = 3 * MINUTE_MS


class Receiver:
    """A server that takes the transmitter's events, and what carries them."""

    def __init__(self, service: Service, transmitter: SsfTransmitter, folder: Path) -> None:
        self.service, self.transmitter = service, transmitter
        self.stream = transmitter.add_stream()
        self._token = folder / "poll.token"
        self._token.write_text(f"{transmitter.bearer}\n")
        target = str(service.made.socket)
        credentials = {role: service.add(role, role).credential for role in ("issuer", "security-events")}
        self.desk = Client(target, credentials["issuer"], timeout_ms=20_000)
        self.carrier = Client(target, credentials["security-events"], timeout_ms=20_000)
        self.operator = Client(target, credential_file=service.made.credential_file, timeout_ms=20_000)
        self._async_terms = target, credentials["security-events"]

    def close(self) -> None:
        """Close the clients."""
        for client in (self.desk, self.carrier, self.operator):
            client.close()

    def options(self, folder: Path) -> list[str]:
        """Return the options of a command that carries."""
        file = folder / "carrier.credential"
        file.write_text(self._async_terms[1])
        file.chmod(0o600)
        return ["--target", f"unix:{self._async_terms[0]}", "--credential-file", str(file)]

    def poller(self, **options: Any) -> EventPoller:
        """Return what polls the stream."""
        address = f"{self.transmitter.address}{POLL_PATH}/{self.stream}"
        return EventPoller("corp", address, self._token, self.carrier, **options)

    @contextmanager
    def pushed_to(self) -> Iterator[str]:
        """Serve the gateway; gives the address for pushes."""
        server = server_of(SecurityEventsApp(lambda: AsyncClient(*self._async_terms, timeout_ms=5_000)))
        bound = bind("127.0.0.1:0")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://{address_of(bound)}/events/corp"
        finally:
            server.should_exit = True
            thread.join(20)
            bound.close()


@contextmanager
def receiving(corp: Provider, tmp_path: Path, **options: Any) -> Iterator[Receiver]:
    """Run the server, and the transmitter whose clock is the server's."""
    settings = {**corp.settings, "silence_ms": SILENCE_MS, **options}
    with (
        running(corp.clock, identity_providers=[settings]) as service,
        ssf_transmitter(audience=SERVICE, issuer=ISSUER) as transmitter,
    ):
        transmitter.clock = lambda: corp.clock.now_ms() / 1000
        transmitter.long_poll_s = 0
        made = Receiver(service, transmitter, tmp_path)
        yield made
        made.close()


@pytest.fixture
def receiver(corp: Provider, tmp_path: Path) -> Iterator[Receiver]:
    """A server that silence suspends."""
    with receiving(corp, tmp_path, on_silence="suspend") as made:
        yield made


def test_a_polled_event_is_acknowledged_once_it_is_durable(receiver: Receiver, corp: Provider) -> None:
    """And once: what was sent again meanwhile does nothing."""
    agent = opened(receiver.desk, corp.token())
    transmitter = receiver.transmitter
    first = transmitter.emit("session-revoked", ANN)
    transmitter.repeat(first)
    poller = receiver.poller()
    poller.poll()
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED
    poller.poll()
    assert first in transmitter.acknowledged
    assert not transmitter.set_errors
    assert fault_of(receiver.desk, corp.token()) == "IDENTITY_CUT"


def test_an_event_that_was_not_acknowledged_comes_again(receiver: Receiver, corp: Provider) -> None:
    """A carrier that is killed before its next question loses nothing."""
    agent = opened(receiver.desk, corp.token())
    jti = receiver.transmitter.emit("session-revoked", ANN)
    receiver.poller().poll()
    assert not receiver.transmitter.acknowledged
    again = receiver.poller()
    again.poll()
    again.poll()
    assert jti in receiver.transmitter.acknowledged
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED


def test_many_events_come_in_parts(
    receiver: Receiver, corp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is handed on, in whatever order they come."""
    monkeypatch.setattr(security_events, "MAX_EVENTS", 4)
    agents = [opened(receiver.desk, corp.token(sub=f"u{n}", sid=f"s{n}")) for n in range(10)]
    with receiver.transmitter.reverse_order():
        for number in range(10):
            receiver.transmitter.emit("session-revoked", iss_sub(ISSUER, f"u{number}"))
    poller = receiver.poller()
    while poller.poll():
        pass
    assert {status(receiver.operator, each.id) for each in agents} == {SessionStatus.ENDED}


def test_an_event_that_the_server_can_not_apply_holds_up_no_other(
    receiver: Receiver, corp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again and again; the events after it end logins meanwhile."""
    agents = [opened(receiver.desk, corp.token(sub=f"u{n}", sid=f"s{n}")) for n in range(3)]
    report = receiver.carrier.report_security_event
    faulty = [receiver.transmitter.emit("session-revoked", iss_sub(ISSUER, "u0"))]

    def refuse_first(provider: str, token: str) -> Any:
        if faulty and token == receiver.transmitter.text(faulty[0]):
            raise Rejected(Rejection.LIMIT, "subject, sid: too many users have moments")
        return report(provider, token)

    monkeypatch.setattr(receiver.carrier, "report_security_event", refuse_first)
    others = [receiver.transmitter.emit("session-revoked", iss_sub(ISSUER, f"u{n}")) for n in (1, 2)]
    poller = receiver.poller()
    for _ in range(2):
        poller.poll()
    assert [status(receiver.operator, each.id) for each in agents] == [
        SessionStatus.ACTIVE,
        SessionStatus.ENDED,
        SessionStatus.ENDED,
    ]
    assert set(receiver.transmitter.acknowledged) == set(others)
    faulty.clear()
    poller.poll()
    assert status(receiver.operator, agents[0].id) is SessionStatus.ENDED


@pytest.mark.parametrize(
    ("stated", "seconds"), [("7", 7.0), ("86400", 300.0), ("9" * 999, 300.0), ("", 2.0), ("soon", 2.0)]
)
def test_a_provider_that_asks_to_be_left_alone_is_asked_again_soon(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, stated: str, seconds: float
) -> None:
    """Five minutes later at most: who is revoked meanwhile has to be known."""
    waited: list[float] = []

    class Stop:
        def wait(self, wait_s: float) -> bool:
            waited.append(wait_s)
            return len(waited) == 2

    poller = receiver.poller()
    headers = Message()
    headers["retry-after"] = stated
    error = HTTPError("https://idp.example/poll", 429, "too many", headers, None)
    monkeypatch.setattr(poller, "poll", Mock(side_effect=error))
    poller.run(Stop())  # type: ignore[arg-type]
    assert waited == [0.0, seconds]


# What is no fault of an event, and what is of its signature.
OTHERS = {"old", "future", "subject in event", "sub", "exp", "other jti", "unknown key", "signature", "iss"}


def test_a_faulty_event_is_refused_for_good(receiver: Receiver, corp: Provider) -> None:
    """Its code is of RFC 8935, and it has no effect; the next one has its own."""
    agent = opened(receiver.desk, corp.token())
    transmitter, poller = receiver.transmitter, receiver.poller()
    lies = sorted(set(LIES) - OTHERS)
    for lie in lies:
        transmitter.emit("session-revoked", ANN, lie=lie)
    transmitter.emit("session-revoked", iss_sub(ISSUER, "bob"))
    poller.poll()
    poller.poll()
    assert (len(transmitter.set_errors), len(transmitter.acknowledged)) == (len(lies), 1)
    assert {error["err"] for _, error in transmitter.set_errors} == {"invalid_request", "invalid_audience"}
    assert status(receiver.operator, agent.id) is SessionStatus.ACTIVE


@pytest.mark.parametrize("lie", ["signature", "unknown key", "iss"])
def test_a_signature_of_no_known_key_is_refused_after_a_while(
    receiver: Receiver, corp: Provider, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Its key may be the provider's next one, which is not fetched yet."""
    agent = opened(receiver.desk, corp.token())
    transmitter, poller = receiver.transmitter, receiver.poller()
    transmitter.emit("session-revoked", ANN, lie=lie)
    for _ in range(3):
        poller.poll()
    assert not transmitter.set_errors and not transmitter.acknowledged
    monkeypatch.setattr(security_events, "UNTRUSTED_SECONDS", 0.0)
    poller.poll()
    poller.poll()
    ((_, error),) = transmitter.set_errors
    assert error["err"] == "invalid_key"
    assert status(receiver.operator, agent.id) is SessionStatus.ACTIVE


def test_a_pushed_event(receiver: Receiver, corp: Provider) -> None:
    """202 once it is durable; one that is refused gets 400 with its code."""
    agent = opened(receiver.desk, corp.token())
    transmitter = receiver.transmitter
    with receiver.pushed_to() as address:
        transmitter.add_stream(address)
        transmitter.emit("session-revoked", ANN, lie="aud")
        transmitter.emit("session-revoked", ANN)
        assert transmitter.wait_for(lambda each: len(each.pushes) == 2)
    assert [push.status for push in transmitter.pushes] == [400, 202]
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED


def test_an_endpoint_that_fails_is_asked_again(receiver: Receiver, corp: Provider) -> None:
    """Later and later, and as late as it says; nothing is lost, and nobody else is asked."""
    agent = opened(receiver.desk, corp.token())
    transmitter = receiver.transmitter
    path = f"{POLL_PATH}/{receiver.stream}"
    transmitter.emit("session-revoked", ANN)
    poller = receiver.poller()
    for prepare in (
        lambda: transmitter.refuse(path, 500),
        lambda: transmitter.refuse(path, 429, retry_after_s=1),
        lambda: transmitter.redirect(path, "http://127.0.0.2:1/"),
        lambda: transmitter.answer_huge(path, 5 << 20),
    ):
        prepare()
        with pytest.raises((OSError, UsageError)):
            poller.poll()
        assert status(receiver.operator, agent.id) is SessionStatus.ACTIVE
    poller.poll()
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED


def test_events_are_polled_though_nobody_answers_for_verification(receiver: Receiver, corp: Provider) -> None:
    """A wrong address for the one must not keep back the other."""
    agent = opened(receiver.desk, corp.token())
    transmitter, stop = receiver.transmitter, threading.Event()
    jti = transmitter.emit("session-revoked", ANN)
    poller = receiver.poller(verification=(f"{transmitter.address}/nothing-here", receiver.stream))
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    acknowledged = transmitter.wait_for(lambda each: jti in each.acknowledged, 30.0)
    stop.set()
    thread.join(20)
    assert acknowledged
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED


def test_no_event_resumes_what_silence_suspends(receiver: Receiver, corp: Provider) -> None:
    """A carrier that keeps back the verification can't pass on that a device is well instead."""
    agent = opened(receiver.desk, corp.token())
    operator, transmitter, poller = receiver.operator, receiver.transmitter, receiver.poller()
    unsafe, safe = ({"current_status": each} for each in ("not-compliant", "compliant"))
    transmitter.emit("device-compliance-change", ANN, **unsafe)
    poller.poll()
    assert status(operator, agent.parent_id) is SessionStatus.SUSPENDED
    silent = opened(receiver.desk, corp.token(sub="bob", sid="s2"))
    corp.clock.advance(SILENCE_MS + 1)
    assert wait_until(lambda: status(operator, silent.parent_id) is SessionStatus.SUSPENDED)
    transmitter.emit("device-compliance-change", ANN, **safe)
    transmitter.emit("risk-level-change", iss_sub(ISSUER, "bob"), current_level="LOW")
    poller.poll()
    for each in (agent, silent):
        assert status(operator, each.parent_id) is SessionStatus.SUSPENDED

    verifying = receiver.poller(verification=(f"{transmitter.address}/verify", receiver.stream))
    verifying._ask_verification()
    for each in (agent, silent):
        assert wait_until(
            lambda each=each: verifying.poll() or status(operator, each.parent_id) is SessionStatus.ACTIVE
        )


def test_a_start_resumes_nothing(receiver: Receiver, corp: Provider) -> None:
    """A server that starts has not received an event yet, whatever the one before it knew."""
    agent = opened(receiver.desk, corp.token())
    control = receiver.service.control
    assert control is not None
    corp.clock.advance(SILENCE_MS + 1)
    assert wait_until(lambda: status(receiver.operator, agent.parent_id) is SessionStatus.SUSPENDED)
    providers = control.subsystems.logins.providers
    started = EventStreams(control.writer, providers, corp.clock)
    started.poll()
    assert status(receiver.operator, agent.parent_id) is SessionStatus.SUSPENDED


def test_a_stream_that_never_ends_stops_when_told(receiver: Receiver) -> None:
    """More is asked for only after something was acknowledged."""
    receiver.transmitter.always_more = True
    stop = threading.Event()
    thread = threading.Thread(target=receiver.poller().run, args=(stop,))
    thread.start()
    asked = receiver.transmitter.wait_for(lambda each: len(each.requests) > 0)
    stop.set()
    thread.join(20)
    assert asked and not thread.is_alive()
    assert len(receiver.transmitter.requests) < 20


def test_a_silent_stream_suspends_until_it_is_heard(receiver: Receiver, corp: Provider) -> None:
    """Only a verification event with the server's own state counts as a word of it."""
    agent, by_hand = opened(receiver.desk, corp.token()), opened(receiver.desk, corp.token(sid="s2"))
    operator, transmitter = receiver.operator, receiver.transmitter
    operator.suspend(by_hand.parent_id, "by hand")
    poller = receiver.poller(verification=(f"{transmitter.address}/verify", receiver.stream))

    def become(*expected: SessionStatus) -> bool:
        # The server looks once a second.
        def states() -> tuple[SessionStatus, ...]:
            poller.poll()
            return tuple(status(operator, each.parent_id) for each in (agent, by_hand))

        return wait_until(lambda: states() == expected)

    active, suspended = SessionStatus.ACTIVE, SessionStatus.SUSPENDED
    corp.clock.advance(SILENCE_MS + 1)
    transmitter.emit("session-revoked", iss_sub(ISSUER, "nobody"))
    transmitter.verify(receiver.stream, "a state of its own")
    assert become(suspended, suspended)
    with pytest.raises((Unavailable, ServerError), match="silent"):
        opened(receiver.desk, corp.token(sid="s3"))

    poller._ask_verification()
    assert become(active, suspended)
    assert opened(receiver.desk, corp.token(sid="s3"))


def test_the_command_polls_and_asks_for_verification(
    receiver: Receiver, corp: Provider, tmp_path: Path
) -> None:
    """It says where it listens, leaves with 0 at a signal, and no token is in its log."""
    agent = opened(receiver.desk, corp.token())
    transmitter, listen = receiver.transmitter, receiver.service.made.home / "events.sock"
    jti = transmitter.emit("session-revoked", ANN)
    poll = f"{transmitter.address}{POLL_PATH}/{receiver.stream}"
    arguments = ("--poll", "corp", poll, str(tmp_path / "poll.token"), "--listen", str(listen))
    verify = ("--verify", "corp", f"{transmitter.address}/verify", receiver.stream)
    command = [sys.executable, "-m", "sessauth.cli.main", *receiver.options(tmp_path), "gateway"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "security-events", *arguments, *verify], stdout=subprocess.PIPE, stderr=log, text=True
        )
        acknowledged = transmitter.wait_for(lambda each: len(each.acknowledged) == 2, 30.0)
        process.send_signal(signal.SIGTERM)
        shown, _ = process.communicate(timeout=30)
    assert acknowledged and jti in transmitter.acknowledged, (tmp_path / "log").read_text()
    assert (process.returncode, str(listen) in shown, listen.exists()) == (0, True, False)
    assert status(receiver.operator, agent.id) is SessionStatus.ENDED
    assert transmitter.bearer not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("address", ["http://idp.example/poll", "ftp://127.0.0.1/poll", "https:///poll"])
def test_a_poll_in_the_clear_is_refused(address: str, tmp_path: Path) -> None:
    """Its token would travel with it."""
    with pytest.raises(UsageError, match="https"):
        EventPoller("corp", address, tmp_path, None)  # type: ignore[arg-type]


def _has_asked(times: int, transmitter: SsfTransmitter) -> bool:
    return len(transmitter.requests) >= times


@pytest.mark.slow
def test_no_event_is_lost_when_the_carrier_is_killed(
    receiver: Receiver, corp: Provider, tmp_path: Path
) -> None:
    """Killed while it polls and takes pushes: what it acknowledged has ended its login, and no other has."""
    rng, transmitter, address = Random("killed carrier"), receiver.transmitter, f"127.0.0.1:{free_port()}"
    poll = f"{transmitter.address}{POLL_PATH}/{receiver.stream}"
    command = [sys.executable, "-m", "sessauth.cli.main", *receiver.options(tmp_path), "gateway"]
    command += ["security-events", "--listen", address, "--poll", "corp", poll, str(tmp_path / "poll.token")]
    living: list[Session] = []
    named: dict[str, Session] = {}

    def push(user: str) -> bool:
        """Push an event of a user; True if it was taken."""
        at_s = corp.clock.now_ms() // 1000
        token = event_token(f"{CAEP}session-revoked", at_s, iss_sub(ISSUER, user))
        headers = {"content-type": "application/secevent+jwt"}
        try:
            answer = httpx.post(
                f"http://{address}/events/corp", content=token, headers=headers, timeout=20, trust_env=False
            )
        except httpx.TransportError:
            return False
        assert answer.status_code in (202, 503), answer.text
        return answer.status_code == 202

    def is_over(session: Session) -> bool:
        return status(receiver.operator, session.id) is SessionStatus.ENDED

    for turn in range(max(5, CASES // 1_000)):
        agents = [opened(receiver.desk, corp.token(sub=f"u{turn}-{n}", sid=f"s{turn}-{n}")) for n in range(9)]
        living += agents[:3]
        polled = {
            transmitter.emit("session-revoked", iss_sub(ISSUER, f"u{turn}-{n}")): agents[n] for n in (3, 4, 5)
        }
        named |= polled
        with (
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program,
            ThreadPoolExecutor(1) as pool,
        ):
            try:
                # The first question of this carrier, or its second, which acknowledges.
                asked = len(transmitter.requests) + 1 + (turn % 4 == 0)
                assert transmitter.wait_for(partial(_has_asked, asked), 30.0)
                sent = pool.submit(list, filter(push, [f"u{turn}-{n}" for n in (6, 7, 8)]))
                threading.Event().wait(rng.random() * 0.06)
            finally:
                program.kill()
            pushed = [agents[int(user.partition("-")[2])] for user in sent.result(30)]
        assert all(is_over(named[jti]) for jti in transmitter.acknowledged if jti in named)
        assert all(map(is_over, pushed))
        living += [agent for agent in agents[6:] if agent not in pushed and not is_over(agent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            assert transmitter.wait_for(lambda each: named.keys() <= set(each.acknowledged), 60.0)
        finally:
            program.kill()
    assert not transmitter.set_errors
    assert all(map(is_over, named.values()))
    assert not any(map(is_over, living))
