"""Options of streams of security events: effects of silence, of gaps and of events, by the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sessauth.errors import IdentityRefused, ServerError, Unavailable
from sessauth.model.change import open_session
from sessauth.model.session import SessionStatus
from sessauth.scopes.scope import Scope
from sessauth.server.identity.event_streams import EventStreams
from sessauth.server.identity.providers import EVENT_EFFECTS, IdentityProvider
from sessauth.server.identity.statements import _NAMES, STREAM_UPDATED, VERIFICATION
from sessauth.server.process.control import Control
from sessauth.state.writer.state_writer import StateWriter
from tests.gateways.test_event_streams import ANN, SILENCE_MS, Receiver, receiving
from tests.server.test_login_sessions import MINUTE_MS, Provider, clock, corp, fault_of, opened
from tests.server.test_provider_signals import status
from tests.support.identity_tokens import ISSUER
from tests.support.security_event_tokens import complex_subject, iss_sub, opaque
from tests.support.service import wait_until

__all__ = ["clock", "corp"]
ACTIVE, SUSPENDED, ENDED = SessionStatus.ACTIVE, SessionStatus.SUSPENDED, SessionStatus.ENDED


def prove(receiver: Receiver) -> None:
    """Have a verification event come through that the server asked for."""
    transmitter = receiver.transmitter
    poller = receiver.poller(verification=(f"{transmitter.address}/verify", receiver.stream))
    before = len(transmitter.acknowledged)
    poller._ask_verification()
    assert wait_until(lambda: poller.poll() or len(transmitter.acknowledged) > before)


def becomes(receiver: Receiver, session_id: bytes, expected: SessionStatus) -> bool:
    """Return True once a session has a status. The server looks once a second."""
    return wait_until(lambda: status(receiver.operator, session_id) is expected)


def start_again(receiver: Receiver, corp: Provider, away_ms: int) -> EventStreams:
    """Stop the server, and start another on its state after a time."""
    service = receiver.service
    assert service.control is not None
    service.control.stop()
    corp.clock.advance(away_ms)
    service.control = Control(service.control._config, corp.clock)
    service.control.start()
    return service.control.subsystems.logins.streams


def test_a_silent_stream_ends_logins_once(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that an operator suspended too; nothing opens meanwhile, and new logins do afterwards."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 2)
    with receiving(corp, tmp_path, on_silence="end") as receiver:
        operator = receiver.operator
        agents = [opened(receiver.desk, corp.token(sid=f"s{number}")) for number in range(5)]
        operator.suspend(agents[0].parent_id, "by hand")
        corp.clock.advance(SILENCE_MS + 1)
        receiver.transmitter.emit("session-revoked", iss_sub(ISSUER, "nobody"))
        receiver.poller().poll()
        assert all(becomes(receiver, each.parent_id, ENDED) for each in agents)
        assert operator.get_session(agents[0].parent_id).reason == "corp: silence"
        with pytest.raises((Unavailable, ServerError), match="silent"):
            opened(receiver.desk, corp.token(sid="s9"))

        prove(receiver)
        assert fault_of(receiver.desk, corp.token(sid="s1")) == "IDENTITY_SESSION_ENDED"
        again = opened(receiver.desk, corp.token(sid="s9"))
        assert receiver.service.control is not None
        for _ in range(2):
            receiver.service.control.subsystems.logins.streams.poll()
        assert status(operator, again.parent_id) is ACTIVE


def test_a_verification_event_counts_once(corp: Provider, tmp_path: Path) -> None:
    """A carrier that keeps the rest back can't show the same one again and again."""
    with receiving(corp, tmp_path, on_silence="suspend") as receiver:
        agent = opened(receiver.desk, corp.token())
        prove(receiver)
        verification = receiver.transmitter.acknowledged[-1]
        corp.clock.advance(SILENCE_MS - 1)
        receiver.transmitter.repeat(verification)
        receiver.poller().poll()
        corp.clock.advance(2)
        assert becomes(receiver, agent.parent_id, SUSPENDED)


@pytest.mark.parametrize("on_silence", ["log", "suspend"])
def test_a_gap_cuts_all_logins_up_to_its_end(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_silence: str
) -> None:
    """Suspended ones, and tokens that are shown later, too; a login after the gap counts."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 1)
    with receiving(corp, tmp_path, on_silence=on_silence, on_gap="end") as receiver:
        prove(receiver)
        streams = receiver.service.control.subsystems.logins.streams if receiver.service.control else None
        assert streams is not None
        streams.poll()
        corp.clock.advance(2 * MINUTE_MS)
        agents = [opened(receiver.desk, corp.token(sub=f"u{n}", sid=f"s{n}")) for n in range(3)]
        prove(receiver)
        corp.clock.advance(SILENCE_MS + 1)
        expected = ACTIVE if on_silence == "log" else SUSPENDED
        assert becomes(receiver, agents[0].parent_id, expected)
        prove(receiver)
        assert all(becomes(receiver, each.parent_id, ENDED) for each in agents)
        assert receiver.operator.get_session(agents[2].parent_id).reason == "corp: gap"
        assert fault_of(receiver.desk, corp.token(sub="dora", sid="s8")) == "IDENTITY_CUT"
        corp.clock.advance(MINUTE_MS)
        later = corp.clock.now_ms() // 1000 - 1
        again = opened(receiver.desk, corp.token(sid="s9", auth_time=later))
        prove(receiver)
        streams.poll()
        assert status(receiver.operator, again.parent_id) is ACTIVE


@pytest.mark.parametrize(("stopped", "on_gap"), [("paused", "log"), ("paused", "end"), ("disabled", "end")])
def test_a_stream_that_its_provider_stops_has_a_gap(
    corp: Provider, tmp_path: Path, stopped: str, on_gap: str
) -> None:
    """However short; what was asked for before does not end it. The same event again begins none."""
    with receiving(corp, tmp_path, on_gap=on_gap) as receiver:
        report, transmitter = receiver.carrier.report_security_event, receiver.transmitter
        assert receiver.service.control is not None
        streams = receiver.service.control.subsystems.logins.streams
        prove(receiver)
        streams.poll()
        corp.clock.advance(2 * MINUTE_MS)
        agent = opened(receiver.desk, corp.token())
        state = receiver.carrier.ask_stream("corp")
        transmitter.set_status(receiver.stream, stopped)
        event = list(transmitter._texts.values())[-1]
        report("corp", event)
        report("corp", transmitter._texts[transmitter.verify(receiver.stream, state)])
        streams.poll()
        assert status(receiver.operator, agent.parent_id) is ACTIVE
        transmitter.set_status(receiver.stream, "enabled")
        prove(receiver)
        streams.poll()
        assert status(receiver.operator, agent.parent_id) is (ENDED if on_gap == "end" else ACTIVE)

        corp.clock.advance(2 * MINUTE_MS)
        again = opened(receiver.desk, corp.token(sid="s9"))
        for _ in range(2):
            report("corp", event)
            prove(receiver)
            streams.poll()
            assert status(receiver.operator, again.parent_id) is ACTIVE
            # Another process does not know that it had the event.
            streams._streams["corp"].stopped_ms = 0


def test_a_start_ends_a_gap(corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what was pushed meanwhile, however short it was; nor what a killed server left to end."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 1)
    for on_gap, expected in (("log", ACTIVE), ("end", ENDED)):
        with receiving(corp, tmp_path, on_gap=on_gap) as receiver:
            agents = [opened(receiver.desk, corp.token(sub=f"u{n}", sid=f"s{n}")) for n in range(3)]
            streams = start_again(receiver, corp, 0)
            prove(receiver)
            for _ in agents:
                streams.poll()
            assert {status(receiver.operator, each.parent_id) for each in agents} == {expected}


def test_a_gap_that_has_ended_refuses_before_the_server_cuts(corp: Provider, tmp_path: Path) -> None:
    """It looks at its streams once a second."""
    with receiving(corp, tmp_path, on_gap="end") as receiver:
        control = receiver.service.control
        assert control is not None
        logins = control.subsystems.logins
        streams, provider = logins.streams, logins.provider("corp")
        assert provider is not None
        streams._streams["corp"].cut_ms = corp.clock.now_ms()
        with pytest.raises(IdentityRefused, match="corp: gap"):
            logins.prove(corp.token())


def test_a_server_that_begins_to_lead_counts_from_then_on(
    corp: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another led, that one had the events."""
    with receiving(corp, tmp_path, on_silence="end") as receiver:
        agent = opened(receiver.desk, corp.token())
        control = receiver.service.control
        assert control is not None
        with monkeypatch.context() as patch:
            patch.setattr(StateWriter, "leads", property(lambda self: False))
            streams = EventStreams(control.writer, control.subsystems.logins.providers, corp.clock)
            corp.clock.advance(SILENCE_MS - 1)
            streams.poll()
            assert not streams.ages_s
        prove(receiver)
        corp.clock.advance(2)
        streams.poll()
        assert streams.ages_s == {("corp",): 0.0}
        assert status(receiver.operator, agent.parent_id) is ACTIVE


def test_an_opening_that_was_proven_before_the_silence_is_refused_in_it(
    corp: Provider, tmp_path: Path
) -> None:
    """Nothing opens behind the back of what ends all."""
    with receiving(corp, tmp_path, on_silence="end") as receiver:
        control = receiver.service.control
        assert control is not None
        logins = control.subsystems.logins
        proven = logins.prove(corp.token())
        change = open_session(
            "c1", b"1" * 16, [Scope.parse("read:tickets/**").to_record()], actor="desk", ttl_ms=MINUTE_MS
        )
        corp.clock.advance(SILENCE_MS + 1)
        with pytest.raises(ServerError, match="silent"):
            control.writer.submit_for(
                change, lambda outcome, _: outcome, partial(logins.place_below, proven)
            ).result(10)


def test_the_command_asks_a_provider_that_pushes_for_verification(corp: Provider, tmp_path: Path) -> None:
    """The event comes by push, and ends a silence."""
    with receiving(corp, tmp_path, on_silence="suspend") as receiver:
        agent = opened(receiver.desk, corp.token())
        corp.clock.advance(SILENCE_MS + 1)
        assert becomes(receiver, agent.parent_id, SUSPENDED)
        transmitter, listen = receiver.transmitter, receiver.service.made.home / "events.sock"
        with receiver.pushed_to() as address:
            stream = transmitter.add_stream(address)
            asked = ("--verify-pushed", "corp", f"{transmitter.address}/verify", stream)
            command = [sys.executable, "-m", "sessauth.cli.main", *receiver.options(tmp_path), "gateway"]
            command += ["security-events", "--listen", str(listen), *asked, str(tmp_path / "poll.token")]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                assert becomes(receiver, agent.parent_id, ACTIVE)
            finally:
                process.terminate()
                process.wait(30)
        assert {path for _, path, _ in transmitter.requests} == {"/verify"}


EFFECTS: list[tuple[dict[str, str], str, dict[str, Any], SessionStatus]] = [
    ({"risk-level-change": "end"}, "risk-level-change", {"current_level": "HIGH"}, ENDED),
    ({"risk-level-change": "end"}, "risk-level-change", {"current_level": "MEDIUM"}, ACTIVE),
    ({"risk-level-change": "ignore"}, "risk-level-change", {"current_level": "HIGH"}, ACTIVE),
    ({"device-compliance-change": "suspend"}, "device-compliance-change", {}, SUSPENDED),
    ({"token-claims-change": "ignore"}, "token-claims-change", {}, ACTIVE),
    ({"token-claims-change": "ignore"}, "session-revoked", {}, ENDED),
    ({"credential-change": "end"}, "credential-change", {"change_type": "create"}, ACTIVE),
    ({"account-disabled": "ignore"}, "account-disabled", {}, ACTIVE),
]


def test_all_events_with_an_effect_have_one_to_state() -> None:
    """The settings take all that the statements know."""
    assert EVENT_EFFECTS.keys() == {*_NAMES.values()} - {STREAM_UPDATED, VERIFICATION}


@pytest.mark.parametrize(("on", "event", "content", "expected"), EFFECTS)
def test_settings_state_effects_of_events(
    corp: Provider, tmp_path: Path, on: dict[str, str], event: str, content: Any, expected: SessionStatus
) -> None:
    """An event that is ignored is acknowledged all the same."""
    with receiving(corp, tmp_path, on=on) as receiver:
        agent = opened(receiver.desk, corp.token())
        jti = receiver.transmitter.emit(event, ANN, **content)
        poller = receiver.poller()
        poller.poll()
        poller.poll()
        assert jti in receiver.transmitter.acknowledged
        assert status(receiver.operator, agent.parent_id) is expected


def test_an_event_resumes_what_was_suspended_under_other_settings(corp: Provider, tmp_path: Path) -> None:
    """The settings take authority away or leave it; what gives it back is as ever."""
    with receiving(corp, tmp_path) as receiver:
        agent = opened(receiver.desk, corp.token())
        receiver.transmitter.emit("risk-level-change", ANN, current_level="HIGH")
        receiver.poller().poll()
        assert status(receiver.operator, agent.parent_id) is SUSPENDED
        assert receiver.service.control is not None
        logins = receiver.service.control.subsystems.logins
        settings = {**corp.settings, "on": {"risk-level-change": "ignore"}}
        logins.providers = (IdentityProvider.from_table("", settings),)
        corp.clock.advance(MINUTE_MS)
        receiver.transmitter.emit("risk-level-change", ANN, current_level="LOW")
        receiver.poller().poll()
        assert status(receiver.operator, agent.parent_id) is ACTIVE


def test_a_critical_member_that_is_unknown_refuses_the_event(corp: Provider, tmp_path: Path) -> None:
    """Polled or pushed; one that is known, or not listed, refuses nothing."""
    members = ["user", "tenant"]
    with receiving(corp, tmp_path, critical_subject_members=members) as receiver:
        agent = opened(receiver.desk, corp.token())
        other = opened(receiver.desk, corp.token(sub="bob", sid="s2"))
        transmitter, poller = receiver.transmitter, receiver.poller()
        critical = complex_subject(user=ANN, tenant=opaque("t1"))
        bob = complex_subject(user=iss_sub(ISSUER, "bob"), device=opaque("d1"))
        refused = transmitter.emit("session-revoked", critical)
        transmitter.emit("session-revoked", bob)
        poller.poll()
        poller.poll()
        assert [(jti, error["err"]) for jti, error in transmitter.set_errors] == [
            (refused, "invalid_request")
        ]
        with receiver.pushed_to() as address:
            transmitter.add_stream(address)
            transmitter.emit("session-revoked", critical)
            assert transmitter.wait_for(lambda each: len(each.pushes) == 1)
        assert transmitter.pushes[0].status == 400
        assert json.loads(transmitter.pushes[0].body)["err"] == "invalid_request"
        assert status(receiver.operator, agent.id) is ACTIVE
        assert status(receiver.operator, other.id) is ENDED
