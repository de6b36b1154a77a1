"""The transmitter of events, and a receiver that knows the specifications alone."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.errors import ConfigError
from sessauth.gateways.event_transmitter import app, push
from sessauth.gateways.event_transmitter.receivers import EventReceiver, TransmitterSettings
from sessauth.gateways.event_transmitter.source import StreamSource
from sessauth.gateways.event_transmitter.stream import PUSH, EventStreamState, StreamPlace, StreamTerms
from sessauth.gateways.event_transmitter.transmitter import EventTransmitter
from tests.server.test_login_sessions import Provider, clock, corp, opened
from tests.support.cases import CASES
from tests.support.event_receiver import (
    REVOKED,
    UPDATED,
    VERIFICATION,
    PollingReceiver,
    Transmitting,
    receivers_file,
)
from tests.support.identity_tokens import ISSUER
from tests.support.interop_server import free_port
from tests.support.service import Service, running, wait_until

__all__ = ["clock", "corp"]
CEILING = ["read:tickets/**"]


class Watched:
    """A server, its clients, and the transmitter that watches it."""

    def __init__(self, service: Service, folder: Path, **receivers: Any) -> None:
        self.service = service
        target = str(service.made.socket)
        self.operator = Client(target, credential_file=service.made.credential_file, timeout_ms=20_000)
        self.auditor = Client(target, service.add("events", "auditor").credential, timeout_ms=20_000)
        self.desk = Client(target, service.add("desk", "issuer").credential, timeout_ms=20_000)
        self.transmitting = Transmitting(folder, self.auditor, **receivers)

    def open(self, **terms: Any) -> Any:
        """Open a session."""
        return self.operator.open_session(**{"subject": "agent:reader", "ceiling": CEILING, **terms})

    def close(self) -> None:
        """Close all."""
        self.transmitting.close()
        for client in (self.operator, self.auditor, self.desk):
            client.close()


@contextmanager
def watched(corp: Provider, folder: Path, **receivers: Any) -> Iterator[Watched]:
    """Run a server whose sessions' ends are told to receivers."""
    with running(corp.clock, identity_providers=[corp.settings]) as service:
        made = Watched(service, folder, **receivers)
        try:
            yield made
        finally:
            made.close()


def received(receiver: PollingReceiver, count: int) -> bool:
    """Poll without acknowledgement until so many events came."""
    return wait_until(lambda: bool(receiver.poll()) and len(receiver.events) >= count)


def test_an_end_is_told(corp: Provider, tmp_path: Path) -> None:
    """Names the user of a login, also for a session below it; and others by their subject."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        receiver.create()
        agent, alone = opened(each.desk, corp.token()), each.open()
        each.operator.suspend(alone.id, "a while")
        each.operator.end(agent.id, "done")
        each.operator.end(alone.id, "done")
        each.operator.end(agent.parent_id, "left")
        assert received(receiver, 3)
        ids = [agent.id.hex(), alone.id.hex(), agent.parent_id.hex()]
        assert receiver.revoked() == ids
        ann = {"format": "iss_sub", "iss": ISSUER, "sub": "ann"}
        reader = {"format": "iss_sub", "iss": each.transmitting.address, "sub": "agent:reader"}
        subjects = [claims["sub_id"] for claims in receiver.events.values()]
        assert [subject["user"] for subject in subjects] == [ann, reader, ann]
        content = next(iter(receiver.events.values()))["events"][REVOKED]
        assert content["reason_admin"] == {"en": "done"}
        assert content["initiating_entity"] == "admin"


def test_pyjwt_judges_the_tokens_alike(corp: Provider, tmp_path: Path) -> None:
    """A second library verifies them by the published keys."""
    jwt = pytest.importorskip("jwt", reason="needs PyJWT, which is no dependency: pip install pyjwt")
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        receiver.create()
        each.operator.end(each.open().id)
        assert received(receiver, 1)
        ((jti, token),) = receiver.post(returnImmediately=True).json()["sets"].items()
        (key,) = receiver.keys()["keys"]
        assert (key["kty"], key["alg"], len(jwt.utils.base64url_decode(key["n"])) * 8) == (
            "RSA",
            "RS256",
            2048,
        )
        found = jwt.decode(
            token,
            jwt.PyJWK(key).key,
            algorithms=["RS256"],
            audience=receiver.audience,
            issuer=receiver.metadata["issuer"],
            options={"require": ["iss", "aud", "iat", "jti"]},
        )
        assert found["jti"] == jti


def test_terms_of_a_receiver_choose_events(corp: Provider, tmp_path: Path) -> None:
    """Suspensions, the sessions below an ended one, or logins alone."""
    terms = {"plain": {}, "all": {"suspensions": True, "descendants": True}, "logins": {"logins_only": True}}
    with watched(corp, tmp_path, **terms) as each:
        receivers = {name: each.transmitting.receiver(name) for name in terms}
        for receiver in receivers.values():
            receiver.create()
        agent, alone = opened(each.desk, corp.token()), each.open()
        parent = each.open()
        before, below = each.open(parent_id=parent.id), each.open(parent_id=parent.id)
        lowest = each.open(parent_id=below.id)
        each.operator.suspend(alone.id, "a while")
        each.operator.end(before.id)
        each.operator.end(parent.id)
        each.operator.end(agent.parent_id)
        login, agent_id = agent.parent_id.hex(), agent.id.hex()
        ends = [before.id.hex(), parent.id.hex(), login]
        assert received(receivers["plain"], 3) and received(receivers["logins"], 1)
        assert received(receivers["all"], 7)
        assert receivers["plain"].revoked() == ends
        assert receivers["logins"].revoked() == [login]
        below_parent = {below.id.hex(), lowest.id.hex()}
        told = receivers["all"].revoked()
        assert told[:3] == [alone.id.hex(), *ends[:2]]
        assert (set(told[3:5]), told[5:]) == (below_parent, [login, agent_id])
        first = next(iter(receivers["all"].events.values()))
        assert first["events"][REVOKED]["reason_admin"] == {"en": "suspended: a while"}


def test_a_poll(corp: Provider, tmp_path: Path) -> None:
    """A poll returns as many as asked for; what is acknowledged, or refused for good, does not come again."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        receiver.create()
        sessions = [each.open() for _ in range(5)]
        for session in sessions:
            each.operator.end(session.id)
        assert received(receiver, 5)
        first = receiver.post(returnImmediately=True, maxEvents=2).json()
        assert (len(first["sets"]), first["moreAvailable"]) == (2, True)
        assert receiver.post(returnImmediately=True, maxEvents=0).json() == {
            "sets": {},
            "moreAvailable": True,
        }
        one, two, *rest = receiver.poll()
        faults = {two: {"err": "invalid_request", "description": "no"}}
        assert receiver.poll([one, "another's"], setErrs=faults) == rest
        # Of some in the middle the first ones come again.
        assert receiver.poll(rest[1:2]) == [rest[0], rest[2]]
        assert receiver.poll(rest) == []
        assert set(receiver.times) == {one, two, *rest}


def test_a_question_waits_for_an_event(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long poll is answered by the next event, at its end with nothing, and by the question after it."""
    monkeypatch.setattr(app, "LONG_POLL_SECONDS", 0.1)
    with watched(corp, tmp_path, siem={}) as each, ThreadPoolExecutor(2) as others:
        receiver = each.transmitting.receiver("siem")
        receiver.create()
        assert receiver.post().json() == {"sets": {}}
        monkeypatch.setattr(app, "LONG_POLL_SECONDS", 300.0)
        before = others.submit(receiver.post)
        assert wait_until(lambda: bool(each.transmitting.questions()))
        first = each.transmitting.questions()
        after = others.submit(receiver.post)
        assert before.result(30).json() == {"sets": {}}
        assert each.transmitting.questions() != first
        each.operator.end(each.open().id)
        assert len(after.result(30).json()["sets"]) == 1


FAULTY: list[tuple[str, str, object, int]] = [
    ("poll", "POST", {"ack": "x"}, 400),
    ("poll", "POST", {"ack": [1]}, 400),
    ("poll", "POST", {"maxEvents": -1}, 400),
    ("poll", "POST", {"maxEvents": True}, 400),
    ("poll", "POST", {"returnImmediately": 1}, 400),
    ("poll", "POST", {"setErrs": {"x": "y"}}, 400),
    ("poll", "POST", [], 400),
    ("poll", "POST", {"ack": ["x" * 70_000]}, 413),
    ("poll", "GET", None, 405),
    ("configuration", "POST", {"delivery": "push"}, 400),
    ("configuration", "POST", {"delivery": {"method": "other"}}, 400),
    ("configuration", "POST", {"delivery": {"method": PUSH, "endpoint_url": "https://other.example/"}}, 400),
    ("configuration", "POST", {"events_requested": "all"}, 400),
    ("configuration", "POST", {"description": "\n"}, 400),
    ("configuration", "POST", {}, 409),
    ("configuration", "PATCH", {"stream_id": "STREAM", "aud": "https://other.example"}, 400),
    ("configuration", "PATCH", {"stream_id": "other"}, 404),
    ("configuration", "DELETE", None, 404),
    ("status", "POST", {"stream_id": "STREAM", "status": "off"}, 400),
    ("status", "GET", None, 404),
    ("verification", "POST", {"stream_id": "STREAM", "state": 5}, 400),
    ("add_subject", "POST", {"stream_id": "STREAM"}, 400),
    ("remove_subject", "POST", {"stream_id": "STREAM", "subject": {}}, 403),
]


def test_faulty_questions_change_nothing(corp: Provider, tmp_path: Path) -> None:
    """Each has the status and the body of the specifications."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        stream = receiver.create()
        receiver.metadata["poll_endpoint"] = stream["delivery"]["endpoint_url"]
        for endpoint, method, body, status in FAULTY:
            if isinstance(body, dict):
                body = {
                    key: stream["stream_id"] if value == "STREAM" else value for key, value in body.items()
                }
            answer = receiver.ask(method, endpoint, body)
            assert (answer.status_code, set(answer.json())) == (status, {"err", "description"}), (
                body,
                answer,
            )
        twice = receiver.send(b'{"ack": [], "ack": []}')
        assert twice.status_code == 400
        assert receiver.ask("GET", "configuration").json() == [stream]


def test_the_largest_settings_of_a_stream_can_be_read_again(corp: Provider, tmp_path: Path) -> None:
    """Else one receiver's would keep the program from its next start, and all others from their events."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        stream = receiver.create()
        names = ["\U00020000" * 256] * 32
        large = {"stream_id": stream["stream_id"], "events_requested": names, "description": "\u4e00" * 1024}
        assert receiver.ask("PATCH", "configuration", large).status_code == 200
        longer = {**large, "events_requested": ["x" * 257]}
        assert receiver.ask("PATCH", "configuration", longer).status_code == 400
        each.transmitting.end()
        each.transmitting.begin()
        (shown,) = receiver.ask("GET", "configuration").json()
        assert shown["events_requested"] == names


class SilentServer:
    """A client whose watches say nothing until they are closed."""

    def __init__(self) -> None:
        self.watched, self.closed = threading.Event(), threading.Event()

    def watch_sessions(self, **_: Any) -> SilentServer:
        """Return a watch."""
        return self

    def __enter__(self) -> SilentServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """Wait for the end."""
        self.watched.set()
        self.closed.wait()
        return iter(())

    def close(self) -> None:
        """End the watch."""
        self.closed.set()


def test_a_stream_that_ends_closes_its_watch(tmp_path: Path) -> None:
    """A receiver that changes its stream often would use up the watches that a server has for all."""
    server: Any = SilentServer()
    terms = StreamTerms("s1", "siem")
    stream = EventStreamState(tmp_path / "s1.json", terms, StreamPlace(1, b"i"))
    receiver = EventReceiver("siem", "0" * 64, "https://siem.example")
    source = StreamSource(stream, receiver, "https://sessauth.example", server, SystemClock())
    source.start()
    assert server.watched.wait(20)

    stream.end()

    assert server.closed.wait(20)
    source.join(20)
    assert not source.is_alive()


def test_a_receiver_has_its_own_streams_alone(corp: Provider, tmp_path: Path) -> None:
    """Another's is not there for it, by no endpoint; without a token there is nothing."""
    with watched(corp, tmp_path, siem={}, other={}) as each:
        siem, other = each.transmitting.receiver("siem"), each.transmitting.receiver("other")
        stream = siem.create()
        assert other.ask("GET", "configuration").json() == []
        other.stream = stream
        assert other.post(returnImmediately=True).status_code == 404
        for endpoint, method in (("configuration", "DELETE"), ("configuration", "GET"), ("status", "GET")):
            assert other.ask(method, endpoint, stream_id=stream["stream_id"]).status_code == 404
        for endpoint, more in (("status", {"status": "paused"}), ("verification", {}), ("add_subject", {})):
            body = {"stream_id": stream["stream_id"], **more}
            assert other.ask("POST", endpoint, body).status_code == 404
        stranger = PollingReceiver(each.transmitting.address, "guessed", "")
        stranger.stream = stream
        answers = [
            stranger.post(),
            stranger.ask("GET", "configuration"),
            stranger.ask("POST", "verification"),
        ]
        stranger.close()
        assert {answer.status_code for answer in answers} == {401}
        assert answers[0].headers["www-authenticate"] == "Bearer"
        other.create()
        each.operator.end(each.open().id)
        assert received(siem, 1) and received(other, 1)
        # The audiences differ, and so do the ids.
        assert not siem.events.keys() & other.events.keys()


def test_a_stream_is_managed(corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, changed, replaced, paused, disabled and deleted; a pause loses nothing, and disabling does."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        stream_id = receiver.create(description="of the desk", events_requested=[REVOKED, "x:y"])["stream_id"]

        def status(value: str) -> None:
            answer = receiver.ask("POST", "status", {"stream_id": stream_id, "status": value, "reason": "r"})
            assert answer.json() == {"stream_id": stream_id, "status": value, "reason": "r"}

        shown = receiver.ask("GET", "configuration", stream_id=stream_id).json()
        assert (shown["events_delivered"], shown["description"]) == ([REVOKED], "of the desk")
        changed = receiver.ask(
            "PATCH", "configuration", {"stream_id": stream_id, "description": "new"}
        ).json()
        assert (changed["description"], changed["events_requested"]) == ("new", [REVOKED, "x:y"])
        replaced = receiver.ask("PUT", "configuration", {"stream_id": stream_id}).json()
        assert not {"description", "events_requested"} & replaced.keys()

        each.operator.end(each.open().id)
        assert received(receiver, 1)
        status("paused")
        kept = each.open()
        each.operator.end(kept.id)
        assert receiver.poll() == []
        status("enabled")
        assert received(receiver, 2)
        receiver.drain()
        status("disabled")
        each.operator.end(each.open().id)
        status("enabled")
        last = each.open()
        each.operator.end(last.id)
        assert received(receiver, 3)
        assert receiver.revoked()[1:] == [kept.id.hex(), last.id.hex()]

        subject = {"stream_id": stream_id, "subject": {"format": "opaque", "id": "x"}}
        assert receiver.ask("POST", "add_subject", subject).status_code == 200
        receiver.drain()
        asked = {"stream_id": stream_id, "state": "a state"}
        assert receiver.ask("POST", "verification", asked).status_code == 204
        refused = receiver.ask("POST", "verification", asked)
        assert (refused.status_code, int(refused.headers["retry-after"]) <= 11) == (429, True)
        (jti,) = receiver.poll()
        assert receiver.events[jti]["events"] == {VERIFICATION: {"state": "a state"}}
        assert receiver.events[jti]["sub_id"] == {"format": "opaque", "id": stream_id}
        assert receiver.poll([jti]) == []

        assert receiver.ask("DELETE", "configuration", stream_id=stream_id).status_code == 204
        assert receiver.post(returnImmediately=True).status_code == 404
        each.transmitting.end()
        each.transmitting.begin()
        assert receiver.ask("GET", "configuration").json() == []


def test_a_transmitter_goes_on_where_it_was(corp: Provider, tmp_path: Path) -> None:
    """Events that were not acknowledged come again, by the same id, also after a change of the key."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver, transmitter = each.transmitting.receiver("siem"), each.transmitting
        receiver.create()
        for _ in range(3):
            each.operator.end(each.open().id)
        assert received(receiver, 3)
        ids = list(receiver.events)
        receiver.poll(ids[:1])
        token = receiver.post(returnImmediately=True).json()["sets"][ids[1]]
        transmitter.end()
        each.operator.end(each.open().id)
        keys = tmp_path / "events" / "keys"
        assert (keys / "signing.pem").stat().st_mode & 0o777 == 0o600
        (keys / "signing.pem").rename(keys / "before.pem")
        transmitter.begin()
        assert received(receiver, 4)
        assert list(receiver.events)[:3] == ids
        assert receiver.poll()[:2] == ids[1:]
        assert len(receiver.keys()["keys"]) == 2
        assert receiver.claims(token)["jti"] == ids[1]


def test_lost_events_are_told_again(corp: Provider, tmp_path: Path) -> None:
    """The receiver is told that events were lost, and of each session that is over."""
    with watched(corp, tmp_path, siem={}) as each:
        control = each.service.control
        assert control is not None
        receiver, transmitter = each.transmitting.receiver("siem"), each.transmitting
        receiver.create()
        over = each.open()
        each.operator.end(over.id)
        assert received(receiver, 1)
        (first,) = receiver.events
        transmitter.end()
        committer = control.writer._committer
        committer._retention = replace(committer._retention, changes=4)
        living = [each.open() for _ in range(10)]
        each.operator.end(living[0].id, "late")
        for _ in range(10):
            each.open()
        transmitter.begin()
        assert received(receiver, 3)
        updated = [claims for claims in receiver.events.values() if UPDATED in claims["events"]]
        assert [claims["events"][UPDATED]["status"] for claims in updated] == ["enabled"]
        assert set(receiver.revoked()) == {over.id.hex(), living[0].id.hex()}
        # The one that had come has its former id.
        assert receiver.times[first] > 1
        receiver.drain()
        transmitter.end()
        transmitter.begin()
        each.operator.end(living[1].id)
        assert received(receiver, 4)
        assert receiver.revoked()[-1] == living[1].id.hex()


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('issuer = "http://events.example"', "issuer: must be an address of https"),
        ('issuer = "https://events.example?x=1"', "issuer: must be an address of https"),
        ("", "issuer: is required"),
        ('issuer = "https://events.example"\nother = 1', "other: is no setting"),
        ('issuer = "https://events.example"', "receivers: must be 1 to 16 tables"),
    ],
)
def test_faulty_settings_are_refused(tmp_path: Path, table: str, fault: str) -> None:
    """The key is named."""
    file = tmp_path / "receivers.toml"
    file.write_text(table)
    with pytest.raises(ConfigError, match=re.escape(fault)):
        TransmitterSettings.read(file)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"name": "A B"}, "receivers[0].name: must be"),
        ({"token_sha256": "secret"}, "receivers[0].token_sha256: must be the 64 hex digits"),
        ({"audience": 5}, "receivers[0].audience: is required"),
        ({"push": ["http://siem.example/"]}, "receivers[0].push: must be an address of https"),
        ({"push": "https://siem.example/"}, "receivers[0].push: must be a list"),
        ({"networks": ["10.0.0.1/8"]}, "receivers[0].networks: 10.0.0.1/8 has host bits set"),
        ({"max_streams": 5}, "receivers[0].max_streams: must be 1 to 4"),
        ({"suspensions": 1}, "receivers[0].suspensions: must be true or false"),
        ({"secret": "x"}, "receivers[0].secret: is no setting"),
    ],
)
def test_faulty_receivers_are_refused(tmp_path: Path, changed: dict[str, Any], fault: str) -> None:
    """The key is named."""
    file, _ = receivers_file(tmp_path, "https://events.example", {"siem": changed})
    with pytest.raises(ConfigError, match=re.escape(fault)):
        TransmitterSettings.read(file)


def test_one_program_at_a_time(corp: Provider, tmp_path: Path) -> None:
    """A folder is of one transmitter."""
    with watched(corp, tmp_path, siem={}) as each:
        settings = TransmitterSettings.read(each.transmitting.file)
        with pytest.raises(ConfigError, match="another program uses"):
            EventTransmitter(settings, tmp_path / "events", each.auditor, SystemClock())


class PushedTo:
    """A receiver of pushes: it answers as it is told, and then with 202."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        """Answer the first pushes so."""
        self.answers = list(answers)
        self.tokens: list[str] = []
        self.headers: list[Any] = []
        taken = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.tokens.append(self.rfile.read(int(self.headers["content-length"])).decode())
                taken.headers.append(self.headers)
                status, headers, body = taken.answers.pop(0) if taken.answers else (202, {}, b"")
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/events"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def pushed(
    corp: Provider, folder: Path, taken: PushedTo, **terms: Any
) -> Iterator[tuple[Watched, PollingReceiver]]:
    """Run a transmitter that pushes the events of one stream."""
    stated = {"push": [taken.address], "networks": ["127.0.0.0/8"], **terms}
    with closing(taken), watched(corp, folder, siem=stated) as each:
        receiver = each.transmitting.receiver("siem")
        delivery = {"method": PUSH, "endpoint_url": taken.address, "authorization_header": "Bearer of-siem"}
        receiver.create(delivery=delivery)
        yield each, receiver


def test_events_are_pushed_until_they_are_taken(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure, and a receiver that is busy, get the same event again; what is refused for good does not."""
    monkeypatch.setattr(push, "FIRST_PAUSE_SECONDS", 0.01)
    refused = b'{"err": "invalid_request", "description": "no"}'
    taken = PushedTo((500, {}, b""), (429, {"retry-after": "0"}, b""), (400, {}, refused))
    with pushed(corp, tmp_path, taken) as (each, receiver):
        sessions = [each.open() for _ in range(3)]
        for session in sessions:
            each.operator.end(session.id)
        assert wait_until(lambda: len(taken.tokens) == 5)
        ids = [receiver.claims(token)["sub_id"]["session"]["id"] for token in taken.tokens]
        first, second, third = (session.id.hex() for session in sessions)
        assert ids == [first, first, first, second, third]
        assert len(set(taken.tokens[:3])) == 1
        assert taken.headers[0]["content-type"] == "application/secevent+jwt"
        assert taken.headers[0]["authorization"] == "Bearer of-siem"


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]])
def test_a_host_of_no_permitted_network_is_not_connected_to(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: list[str], caplog: Any
) -> None:
    """A name of the allow-list that leads to a private address gets nothing."""
    monkeypatch.setattr(push, "FIRST_PAUSE_SECONDS", 0.01)
    taken = PushedTo()
    with pushed(corp, tmp_path, taken, networks=networks) as (each, _):
        each.operator.end(each.open().id)
        assert wait_until(lambda: "is of no public network" in caplog.text)
        assert taken.tokens == []


@pytest.mark.slow
def test_nothing_is_lost_when_the_program_is_killed(corp: Provider, tmp_path: Path) -> None:
    """Killed again and again between events and acknowledgements: each end comes, by one id."""
    with running(corp.clock, identity_providers=[corp.settings]) as service:
        home = service.made.state_dir.parent
        operator = Client(str(service.made.socket), credential_file=service.made.credential_file)
        credential = tmp_path / "events.credential"
        credential.touch(0o600)
        credential.write_text(service.add("events", "auditor").credential)
        address = f"127.0.0.1:{free_port()}"
        file, tokens = receivers_file(tmp_path, f"http://{address}", {"siem": {}})
        command = [sys.executable, "-m", "sessauth.cli.main", "--home", str(home)]
        command += ["--credential-file", str(credential), "gateway", "transmit-events", "--listen", address]
        command += ["--receivers", str(file), "--dir", str(tmp_path / "events")]

        def answers() -> bool:
            try:
                return httpx.get(f"http://{address}/jwks.json", trust_env=False).is_success
            except httpx.TransportError:
                return False

        ended: list[str] = []
        known: dict[str, str] = {}
        receiver = None
        for turn in range(max(5, CASES // 1_000)):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
                try:
                    assert wait_until(answers)
                    if receiver is None:
                        receiver = PollingReceiver(
                            f"http://{address}", tokens["siem"], "https://siem.example"
                        )
                        receiver.create()
                    for _ in range(4):
                        session = operator.open_session(subject="agent:reader", ceiling=CEILING)
                        operator.end(session.id)
                        ended.append(session.id.hex())
                    assert received(receiver, len(ended) - turn % 3)
                    for jti, claims in receiver.events.items():
                        name = claims["sub_id"]["session"]["id"]
                        assert known.setdefault(name, jti) == jti
                    # Some are acknowledged, and the answer to that is not waited for by the kill.
                    waiting = list(receiver.poll())
                    receiver.poll(waiting[: max(turn % 4, len(waiting) - 9)])
                finally:
                    program.kill()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
            try:
                assert wait_until(answers) and receiver is not None
                assert received(receiver, len(ended))
                receiver.drain()
            finally:
                program.kill()
        receiver.close()
        operator.close()
        # Ends come in their order; a repeat is no other event.
        assert receiver.revoked() == ended
