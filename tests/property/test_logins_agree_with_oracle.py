"""Sessions of logins live, and tokens open, as an oracle says that knows statements as moments alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import IdentityRefused, ServerError
from sessauth.model.change import open_session
from sessauth.model.session import SessionStatus
from sessauth.scopes.scope import Scope
from sessauth.server.config import from_dict
from sessauth.server.identity.login_sessions import LoginSessions
from sessauth.server.identity.statements import (
    MAX_BEARER_AGE_MS,
    STREAM_UPDATED,
    VERIFICATION,
    Signal,
    logins_of,
)
from sessauth.state.writer.state_writer import StateWriter
from tests.support.cases import examples
from tests.support.identity_tokens import ISSUER, NOW_MS, SERVICE, claims, public_jwk, signed

LEASE_MS, AGE_MS, SESSION_MS = 900_000, 7_200_000, 10_800_000
SILENCE_MS = 400_000
EVENT = "http://schemas.openid.net/event/backchannel-logout"
STEPS = 40
TIMES_MS = (0, 1, 300, 999, 999, 1_500, 2_500, 60_000, 420_000, 899_999, 900_001, 4_000_000, 7_000_000)
Ids = tuple[bytes, bytes]


@dataclass(eq=False)
class Login:
    """A login, the deadline of its lease, its last lapse, and the agents of its present and past sessions.

    Times are in ms.
    """

    user: str
    sid: str
    at_ms: int
    deadline_ms: int = 0
    lapse_ms: int = 0
    agents: list[Ids] = field(default_factory=list)
    lapsed: list[Ids] = field(default_factory=list)
    # Its session was ended by silence: no token of it counts, whatever the moments are.
    ended: bool = False


class Oracle:
    """Logins that are over: a statement is a user, a sid, and a moment."""

    def __init__(self, gap_ms: int) -> None:
        """Begin without a statement; ``gap_ms`` is the end of the last gap, which cut all logins."""
        self.acknowledged: list[tuple[str, str, int]] = []
        self.gap_ms = gap_ms

    def is_cut(self, login: Login) -> bool:
        """Return True if a statement names a login: by its sid, or by its user if it is not later.

        What a silence ended is over too, and what began before the end of a gap.
        """
        return (
            login.ended
            or login.at_ms <= self.gap_ms
            or any(
                (sid and sid == login.sid)
                or (user == login.user and login.at_ms <= moment_ms and not (sid and login.sid))
                for user, sid, moment_ms in self.acknowledged
            )
        )

    def is_alive(self, login: Login, now_ms: int) -> bool:
        """Return True if a login's session is there and may act."""
        return now_ms < min(login.deadline_ms, login.at_ms + SESSION_MS) and not self.is_cut(login)

    def counts(self, login: Login, issued_ms: int, now_ms: int) -> bool:
        """Return True if a token of a login counts: it is younger than the login's last lapse."""
        if not self.is_alive(login, now_ms):
            login.lapse_ms = login.deadline_ms
        return issued_ms > login.lapse_ms and now_ms - login.at_ms <= AGE_MS and not self.is_cut(login)

    def opens(self, login: Login, issued_ms: int, now_ms: int) -> bool:
        """Return True if a token opens a session; it renews the lease, or begins one."""
        if not self.counts(login, issued_ms, now_ms):
            return False
        if not self.is_alive(login, now_ms):
            login.lapsed, login.agents, login.deadline_ms = login.lapsed + login.agents, [], now_ms + LEASE_MS
        return self.renews(login, issued_ms, now_ms) or True

    def renews(self, login: Login, issued_ms: int, now_ms: int) -> bool:
        """Return True if a token of a living login renews its lease, or need not yet."""
        if login.deadline_ms - now_ms > LEASE_MS // 2:
            return True
        if issued_ms <= login.deadline_ms - LEASE_MS:
            return False
        login.deadline_ms = now_ms + LEASE_MS
        return True


class History:
    """One random history after another, of users of its own, in one state folder."""

    def __init__(self, folder: Path, rng: Random, *, refuses_more: bool = False, **options: Any) -> None:
        """Make the folder, and a provider that publishes a key; ``options`` are of its settings.

        ``refuses_more``: the queue of cuts is full, so tokens of others may be refused too.
        """
        self.gap_ms = self.cut_ms = 0
        self.oracle = Oracle(0)
        self.refuses_more = refuses_more
        self.seen = Counter[str]()
        self.folder, self.rng, self.clock = folder, rng, FixedClock(NOW_MS + 123)
        keys = folder / "keys.json"
        keys.write_text(json.dumps({"keys": [public_jwk("ES256")]}))
        provider = {
            "name": "corp",
            "issuer": ISSUER,
            "audience": SERVICE,
            "clients": ["desk"],
            "jwks_file": str(keys),
            "lease_ms": LEASE_MS,
            "max_age_ms": AGE_MS,
            "max_session_ms": SESSION_MS,
            "grants": [{"ceiling": ["read:**"]}],
            **options,
        }
        self.config = from_dict({"home": str(folder), "identity_providers": [provider]})
        self.numbers = count(1)
        self.ceiling: list[Any] = [Scope.parse("read:**").to_record()]
        self.writer = self.start()

    def start(self) -> StateWriter:
        """Open the state as a server does."""
        self.writer = StateWriter.open(
            self.folder / "state", create=True, map_size=64 << 20, clock=self.clock
        )
        self.service = LoginSessions(self.writer, self.config, self.clock)
        return self.writer

    def restart(self) -> None:
        """Close the state, and open it again."""
        self.writer.close()
        self.start()

    @property
    def is_silent(self) -> bool:
        """Return True while no token opens a session."""
        return False

    def begin(self) -> None:
        """Begin with nobody whom an earlier history named."""
        self.name = f"u{next(self.numbers)}"
        self.oracle, self.logins, self.statements = (
            Oracle(self.gap_ms),
            list[Login](),
            list[tuple[str, str, int, str]](),
        )
        for _ in range(2):
            self.log_in()

    def log_in(self) -> None:
        """Add a login of one of two users, of now or of a little earlier, with or without a sid."""
        at_s = self.clock.now_ms() // 1000 - self.rng.choice((0, 0, 1, 60))
        user = f"{self.name}-{self.rng.choice('aab')}"
        sid = f"{self.name}/{next(self.numbers)}" if self.rng.random() < 0.7 else ""
        # Without a sid two logins of one second are one.
        if sid or all((each.user, each.at_ms) != (user, at_s * 1000) for each in self.logins):
            self.logins.append(Login(user, sid, at_s * 1000))

    def token(self, login: Login) -> tuple[str, int]:
        """Return a token of a login, and when it was issued in ms."""
        now_s = self.clock.now_ms() // 1000
        issued_s = now_s - self.rng.choice((0, 0, 0, 5, 400, 1_000))
        terms = {"iat": issued_s, "exp": now_s + 300, "auth_time": login.at_ms // 1000}
        return signed(claims(sub=login.user, sid=login.sid or None, **terms), "ES256"), issued_s * 1000

    def open(self, login: Login) -> None:
        """Open an agent's session by a token: this works exactly if the oracle says so."""
        token, issued_ms = self.token(login)
        before = replace(login)
        opens = not self.is_silent and self.oracle.opens(login, issued_ms, self.clock.now_ms())
        change = open_session(
            f"open-{next(self.numbers)}", next(self.numbers).to_bytes(16, "big"), self.ceiling,
            actor="desk", subject="agent", owner="desk", ttl_ms=SESSION_MS,
        )  # fmt: skip
        try:
            proven = self.service.prove(token)
            prepare = partial(self.service.place_below, proven)
            outcome = self.writer.submit_for(change, lambda outcome, _: outcome, prepare).result(10)
            opened = self.writer.effective_session(outcome.raise_if_rejected().session_id)
        except (IdentityRefused, ServerError):
            assert not opens or self.refuses_more
            vars(login).update(vars(before))
            self.seen["refused"] += 1
            return
        assert opens and opened is not None
        self.seen["opened"] += 1
        login.agents.append((opened.id, opened.parent_id))

    def renew(self, login: Login) -> None:
        """Renew a lease by a token, by the name of an agent's session that it has or had."""
        known = login.agents + login.lapsed
        if not known:
            return
        token, issued_ms = self.token(login)
        now_ms, alive = self.clock.now_ms(), self.oracle.is_alive(login, self.clock.now_ms())
        before, is_of_present = replace(login), bool(login.agents)
        named = (login.agents or login.lapsed)[-1][0]
        renews = self.oracle.counts(login, issued_ms, now_ms) and alive and is_of_present
        renews = renews and self.oracle.renews(login, issued_ms, now_ms)
        try:
            deadline_ms = self.service.renew(self.service.prove(token), named).result(10)
        except (IdentityRefused, ServerError):
            assert not renews or self.refuses_more
            vars(login).update(vars(before))
        else:
            assert renews and deadline_ms == login.deadline_ms

    def state(self) -> None:
        """Have the provider sign a statement, which arrives at any time or not at all."""
        login, now_s = self.rng.choice(self.logins), self.clock.now_ms() // 1000
        kind = self.rng.choice(("sid", "user", "both", "revocation"))
        sid = login.sid if kind in ("sid", "both") else ""
        user = "" if kind == "sid" and sid else login.user
        stated: dict[str, Any] = {"iss": ISSUER, "iat": now_s, "jti": str(next(self.numbers))}
        if kind == "revocation":
            token = signed({**stated, "aud": SERVICE}, "ES256", typ="global-token-revocation+jwt")
        else:
            named = {name: value for name, value in (("sub", user), ("sid", sid)) if value}
            stated |= {"aud": "desk", "exp": now_s + 86_400, "events": {EVENT: {}}, **named}
            token = signed(stated, "ES256", typ="logout+jwt")
        self.statements.append((user if kind != "revocation" else f"!{user}", sid, now_s * 1000, token))

    def deliver(self) -> None:
        """Have one of the statements arrive; it stays, and may arrive again."""
        if not self.statements:
            return
        user, sid, issued_ms, token = self.rng.choice(self.statements[-self.rng.choice((1, 9)) :])
        name = user.removeprefix("!")
        if user == name:
            signal = self.service.logout(token, "corp")
        else:
            body = json.dumps({"sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": name}}).encode()
            try:
                signal = self.service.revocation(token, body, "corp")
            except IdentityRefused:
                assert self.clock.now_ms() - issued_ms > MAX_BEARER_AGE_MS
                return
        self.seen["ended"] += self.end(signal)
        self.oracle.acknowledged.append((name, sid, issued_ms + 999))

    def cut(self) -> None:
        """Have an operator cut the logins of a user up to now, or one login."""
        login = self.rng.choice(self.logins)
        user, sid = ("", login.sid) if login.sid and self.rng.random() < 0.5 else (login.user, "")
        provider = self.service.provider("corp")
        assert provider is not None
        self.end(Signal(provider, "cut", logins_of(user, sid), self.clock.now_ms()))
        self.oracle.acknowledged.append((user, sid, self.clock.now_ms()))

    def end(self, signal: Signal) -> int:
        """Cut and end in parts, as the service does; the server may stop between two. Returns how many."""
        ended, more = 0, True
        while more:
            part = self.service.apply(signal, "over", self.rng.choice(("one", "two"))).result(10)
            ended, more = ended + sum(part.changed.values()), part.more
            if more and self.rng.random() < 0.3:
                self.restart()
        return ended

    def step(self) -> None:
        """Do one thing, and compare all sessions."""
        roll, login = self.rng.random(), self.rng.choice(self.logins)
        if roll < 0.12:
            self.log_in()
        elif roll < 0.42:
            self.open(login)
        elif roll < 0.52:
            self.renew(login)
        elif roll < 0.64:
            self.state()
        elif roll < 0.78:
            self.deliver()
        elif roll < 0.81:
            self.cut()
        elif roll < 0.82:
            self.restart()
        elif roll < 0.85:
            self.writer.sweep()
        else:
            self.clock.advance(self.rng.choice(TIMES_MS))
        self.compare()

    def compare(self) -> None:
        """Require that exactly the sessions of logins that are alive are active."""
        for login in self.logins:
            alive = self.oracle.is_alive(login, self.clock.now_ms())
            for ids, expected in [(ids, alive) for ids in login.agents] + [(i, False) for i in login.lapsed]:
                for session_id in ids:
                    found = self.writer.effective_session(session_id)
                    assert (found is not None and found.status is SessionStatus.ACTIVE) is expected, login


class StreamHistory(History):
    """Histories of a provider whose stream of events is silent at times, stopped, or lost with a server."""

    def start(self) -> StateWriter:
        """Open the state as a server does: silence counts from then on, and what was before is a gap."""
        writer = super().start()
        now_ms = self.clock.now_ms()
        self.received_ms, self.stopped_ms, self.stated_ms, self.gap = now_ms, 0, 0, True
        # The end of a gap that was not cut yet is forgotten: the next one is later.
        self.gap_ms = self.oracle.gap_ms = self.cut_ms
        return writer

    @property
    def is_silent(self) -> bool:
        """Return True while no event that counts has come for too long."""
        return self.clock.now_ms() - self.received_ms > SILENCE_MS

    def step(self) -> None:
        """Do one thing of the stream first, now and then."""
        roll, now_ms, streams = self.rng.random(), self.clock.now_ms(), self.service.streams
        provider = self.service.provider("corp")
        assert provider is not None
        if roll < 0.3:
            streams.receive(Signal(provider, VERIFICATION, (), now_ms, state=streams.ask("corp")))
            if self.gap or self.is_silent:
                self.gap, self.gap_ms, self.oracle.gap_ms = False, now_ms, now_ms
                self.seen["gap"] += 1
            self.received_ms = self.stated_ms = now_ms
        elif roll < 0.32:
            at_ms = now_ms - self.rng.choice((0, 0, 60_000))
            streams.receive(Signal(provider, STREAM_UPDATED, (), at_ms, stopped="paused"))
            if at_ms // 1000 > self.stopped_ms // 1000 and at_ms // 1000 >= self.stated_ms // 1000:
                self.gap, self.stopped_ms = True, at_ms
                self.seen["stopped"] += 1
        elif roll < 0.6:
            self.clock.advance(1_500)
            self.log_in()
            self.open(self.logins[-1])
        super().step()

    def compare(self) -> None:
        """Compare after the server has looked at its streams."""
        if self.is_silent:
            self.gap = True
            for login in self.logins:
                if login.agents and self.oracle.is_alive(login, self.clock.now_ms()):
                    login.ended = True
                    self.seen["silent"] += 1
        streams = self.service.streams
        streams.poll()
        while streams._streams["corp"].cut_ms or (self.is_silent and not streams._streams["corp"].followed):
            streams.poll()
        self.cut_ms = self.gap_ms
        super().compare()


def test_logins_agree_with_the_oracle_though_streams_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence ends what lives, a gap cuts what logged in before its end, and nothing else ends."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 2)
    options = {"silence_ms": SILENCE_MS, "on_silence": "end", "on_gap": "end"}
    history = StreamHistory(tmp_path, Random("streams"), **options)
    try:
        for _ in range(examples(120)):
            history.begin()
            for _ in range(STEPS):
                history.step()
    finally:
        history.writer.close()
    assert all(history.seen[each] > examples(120) // 8 for each in ("opened", "gap", "stopped", "silent"))


@pytest.mark.parametrize("full", [False, True])
def test_logins_agree_with_the_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """Statements come late, twice, in another order, or between two starts of the server."""
    monkeypatch.setattr("sessauth.server.identity.login_changes.CHANGES_A_COMMIT", 1)
    if full:
        monkeypatch.setattr("sessauth.state.rules.logins.MAX_CUTS", 3)
    history = History(tmp_path, Random("logins"), refuses_more=full)
    try:
        for _ in range(examples(300)):
            history.begin()
            for _ in range(STEPS):
                history.step()
    finally:
        history.writer.close()
    assert all(history.seen[each] > examples(300) // 2 for each in ("opened", "refused", "ended"))
