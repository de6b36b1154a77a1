"""A server with two workers and a gateway that embeds a verifier: what all of them saw is one report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast.codec import base64url
from sessauth.approvals.approver import ApproverKey
from sessauth.client import Client, SessionReport
from sessauth.model.session import Session
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.tokens.token import Token
from sessauth.usage.report import UsageReport
from sessauth.usage.tighten import Fit
from sessauth.verifier.verifier import Verifier
from tests.cli.conftest import invoke
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

SETTINGS = {
    "SESSAUTH_SERVER_WORKERS": "2",
    "SESSAUTH_USAGE_ENABLED": "true",
    "SESSAUTH_LIMITS_DRAIN_MS": "3000",
}
CEILING = [
    "read:files/**",
    'write:files/** where path under "/srv" and size <= 100000',
    "deploy:cluster/*",
    "read:mail/** free *",
    "*:admin/**",
]
# A ceiling carries no needs.
MINTED = [scope + " needs uses(9)" * scope.startswith("deploy") for scope in CEILING]
CALLS: list[tuple[str, str, bytes]] = [
    ("read", "files/reports/a", b""),
    ("read", "files/reports/b", b""),
    ("write", "files/out", b'{"path":"/srv/out/a.txt","size":512}'),
    ("write", "files/out", b'{"path":"/srv/out/b.txt","size":2048}'),
    ("read", "mail/inbox", b'{"folder":"inbox","unread":true}'),
    ("deploy", "cluster/web", b""),
]
# What was asked for and not allowed.
DENIED: list[tuple[str, str, bytes]] = [("write", "files/out", b'{"path":"/etc/passwd","size":1}')]


class World:
    """The server, its operator, and everyone who judges calls for audience gw."""

    def __init__(self, made: Any) -> None:
        """Start the server and open the verifier."""
        self.made = made
        gateway = CredentialFile(made.state_dir / "credentials.toml").add("gw-1", "gateway", ["gw"])
        self.process = self.start()
        target = f"unix:{made.socket}"
        self.operator = Client(target, credential_file=made.credential_file, timeout_ms=10_000)
        workers = [f"unix:{made.home}/run/check-{index}.sock" for index in range(2)]
        self.remote = [
            Client(target, gateway, check_target=each, timeout_ms=10_000) for each in (target, *workers)
        ]
        self.verifier = Verifier.embedded(
            made.state_dir,
            audience="gw",
            server=target,
            credential=gateway,
            timeout_ms=10_000,
            report_usage=True,
        )
        self.judges: list[Callable[[Token, str, str, bytes], Any]] = [
            *(lambda *call, by=by: by.check(*call, audience="gw") for by in self.remote),
            self.verifier.check,
        ]

    def start(self) -> ServerProcess:
        """Start the server and wait until all three processes serve."""
        process = ServerProcess.start(self.made.home, **SETTINGS)
        credential = self.made.credential_file.read_text().strip()
        sockets = [self.made.socket, *(self.made.home / "run" / f"check-{index}.sock" for index in range(2))]
        callers = [Caller(f"unix:{socket}", credential) for socket in sockets]
        assert wait_until(lambda: all(serves(caller) for caller in callers)), process.log
        for caller in callers:
            caller.close()
        return process

    def close(self) -> None:
        """Close all and kill the server."""
        self.verifier.close()
        for client in (self.operator, *self.remote):
            client.close()
        self.process.kill()

    def open(self, ceiling: list[str], scopes: list[str], **terms: Any) -> tuple[Session, Token]:
        """Open a session and mint an open token of it."""
        session = self.operator.open_session(subject="agent", ceiling=ceiling, **terms)
        token = self.operator.mint(session.id, scopes, ["gw"], ending="open", label="planner")
        return session, token

    def report(self, session_id: bytes, allowed: int, denied: int = 0) -> SessionReport:
        """Return the report once it has as many calls; fails if it never has."""
        found: list[SessionReport] = []

        def adds_up() -> bool:
            found[:] = [self.operator.get_report(session_id)]
            return (found[0].observation.allowed, found[0].observation.denied) == (allowed, denied)

        assert wait_until(adds_up), (
            found[0].observation.allowed,
            found[0].observation.denied,
            self.process.log,
        )
        return found[0]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for all tests of the module."""
    with home_folder() as home:
        started = World(initialise(home))
        yield started
        started.close()


@pytest.fixture(scope="module")
def used(world: World) -> tuple[Session, list[Token]]:
    """A session whose token was attenuated offline once for each judge, and used by all."""
    session, token = world.open(CEILING, MINTED, purpose="nightly")
    held = [token.attenuate(label=f"agent-{index}").present() for index in range(len(world.judges))]
    for judge, presented in zip(world.judges, held, strict=True):
        for call in CALLS:
            assert judge(presented, *call).allowed, call
        for call in DENIED:
            assert not judge(presented, *call).allowed
    return session, held


def test_the_report_adds_up_over_all_who_judge(world: World, used: tuple[Session, list[Token]]) -> None:
    """Each call counts once, whoever judged it, and also where it went on to the writer."""
    session, held = used
    report = world.report(session.id, len(CALLS) * len(held), len(DENIED) * len(held))
    usage = report.observation.usage

    assert {each.name for each in report.verifiers} == {"control", "worker-0", "worker-1", "gw-1"}
    assert sum(each.allowed for each in report.verifiers) == report.observation.allowed
    assert usage is not None
    assert usage.allowed.calls == report.observation.allowed
    assert {key: span.calls for key, span in usage.calls} == {
        ("deploy", "cluster/web"): 4,
        ("read", "files/reports/a"): 4,
        ("read", "files/reports/b"): 4,
        ("read", "mail/inbox"): 4,
        ("write", "files/out"): 8,
    }
    assert report.missing == ()


def test_the_census_has_every_block(world: World, used: tuple[Session, list[Token]]) -> None:
    """The root and the blocks that were attenuated offline, each below its parent, with what it says."""
    session, held = used
    world.report(session.id, len(CALLS) * len(held), len(DENIED) * len(held))
    census = world.operator.get_census(session.id)
    (root,) = census.children()
    children = census.children(root.observation.block_id)
    expected = {block_id for token in held for block_id in token.block_ids}

    assert {each.observation.block_id for each in census.blocks} == expected
    assert len(children) == len(held)
    assert root.observation.calls == sum(each.observation.calls for each in children)
    assert {each.info.label for each in children if each.info} == {f"agent-{i}" for i in range(len(held))}
    ran = invoke("--home", world.made.home, "session", "census", session.id.hex())
    assert ran.code == 0, ran.err
    assert ran.out.count("└─ block 1 'agent-") == len(held)


def test_a_suggestion_allows_every_call_that_was_allowed(
    world: World, used: tuple[Session, list[Token]]
) -> None:
    """A session with the suggested ceiling, and a token minted with what was suggested, replay cleanly."""
    session, held = used
    found = world.report(session.id, len(CALLS) * len(held), len(DENIED) * len(held))
    assert found.observation.usage is not None
    for fit in Fit:
        report = UsageReport.of([(found.granted, found.observation.usage)], now_ms=0)
        suggested = {
            each.layer.kind: [
                str(scope) for one in each.suggestions if one.fit is fit for scope in one.scopes
            ]
            for each in report.layers
        }
        assert set(suggested) == {"ceiling", "minted"}
        assert not any("admin" in scope for scope in suggested["ceiling"])
        _, token = world.open(suggested["ceiling"], suggested["minted"])
        for call in CALLS:
            assert world.verifier.check(token.present(), *call).allowed, (fit, call, suggested)
        for call in DENIED:
            assert not world.verifier.check(token.present(), *call).allowed


def test_the_command_shows_both(world: World, used: tuple[Session, list[Token]], tmp_path: Any) -> None:
    """Reports by session and by purpose: tables for people, a document for programs, a page on request."""
    session, held = used
    world.report(session.id, len(CALLS) * len(held), len(DENIED) * len(held))
    home = ("--home", world.made.home, "session", "report")
    ran = invoke(*home, session.id.hex(), "--html", tmp_path / "used.html")
    document = invoke(*home, "--purpose", "nightly", "--json").json

    assert ran.code == 0, ran.err
    assert "never" in ran.out
    assert "Granted against used" in (tmp_path / "used.html").read_text()
    assert [each["id"] for each in document["sessions"]] == [session.id.hex()]
    assert document["usage"]["allowed"]["calls"] == len(CALLS) * len(held)
    assert invoke(*home).code == 2


def test_a_token_presented_after_the_end_is_told(world: World) -> None:
    """Verified by who knew its bytes, claimed by who did not; a stop and a start forget none of it."""
    session, token = world.open(CEILING, MINTED)
    presented = token.present()
    worker, stranger = world.judges[1], world.judges[0]
    assert worker(presented, *CALLS[0]).allowed
    assert world.verifier.check(presented, *CALLS[0]).allowed
    world.report(session.id, 2)
    world.operator.end(session.id)
    for judge in (worker, world.verifier.check, stranger):
        assert not judge(presented, *CALLS[0]).allowed

    def late() -> list[tuple[bool, int]]:
        return sorted((each.claimed, each.count) for each in world.operator.get_census(session.id).late)

    assert wait_until(lambda: late() == [(False, 2), (True, 1)]), late()
    assert world.process.terminate() == 0
    world.process = world.start()
    report = world.operator.get_report(session.id)
    assert (report.observation.allowed, late(), report.missing) == (2, [(False, 2), (True, 1)], ())
    assert report.observation.usage is not None
    assert json.loads(report.observation.usage.to_json())["allowed"][0] == 2


def test_a_verifier_tells_the_next_control_process_too(world: World) -> None:
    """An embedded verifier reports what it observed while there was no server, once there is one again."""
    session, token = world.open(CEILING, MINTED)
    presented = token.present()
    assert world.process.terminate() == 0
    assert world.verifier.check(presented, *CALLS[0]).allowed
    world.process = world.start()

    assert world.report(session.id, 1).verifiers[0].name == "gw-1"


def test_what_sessions_used_becomes_the_next_ceiling(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Observe, report, ceiling file, open, and the same calls again, by commands alone.

    The honest calls of the next session are allowed, those of a hijacked one denied, and with an approval for
    what is new nothing is: it is asked about. Attachments are held inside their list, from two processes.
    """
    monkeypatch.setenv("SESSAUTH_HOME", str(world.made.home))
    run = partial(invoke, "--timeout-ms", 10_000)
    judge = world.remote[0]

    def allows(token: Token, wanted: tuple[str, str, bytes]) -> bool:
        return judge.check(token.present(), *wanted, audience="gw").allowed

    def call(to: str, body: str, path: str = "/srv/out/new.pdf", **more: str) -> tuple[str, str, bytes]:
        files = [{"path": "/srv/out/a.pdf"}, {"path": path, **more}]
        return ("write", "mcp/mail/send", json.dumps({"to": to, "body": body, "files": files}).encode())

    everything = ["read,write:mcp/** free *"]
    for number in range(2):
        session, token = world.open(everything, everything, purpose="post")
        for to, by in (("ana", world.judges[0]), ("ben", world.judges[-1])):
            words = f"what happened in week {number}, and {'more ' * 20}"
            assert by(token.attenuate(label=to).present(), *call(to, words)).allowed
        world.report(session.id, 2)
    report = ("session", "report", "--purpose", "post")
    file = tmp_path / "post.scopes"
    suggested = run(*report, "--scopes-only")
    file.write_text(suggested.out)
    page = run(*report, "--html", tmp_path / "post.html")
    opened = run("session", "open", "--quiet", "--subject", "a", "--purpose", "post", "--ceilings", tmp_path)
    session_id = bytes.fromhex(opened.out.strip())
    token = world.operator.mint(session_id, everything, ["gw"], ending="open")

    assert "learnt from 2 sessions" in suggested.err
    assert file.read_text().startswith(
        'write:mcp/mail/send where files[].path under "/srv/out" and to in ["ana", "ben"] and body present\n'
    )
    assert (page.code, "about 0 of 4 calls denied" in page.out) == (0, True)
    assert allows(token, call("ben", "new words"))
    for wrong in (
        call("mallory", "new words"),
        call("ben", "new words", "/etc/passwd"),
        call("ben", "new words", owner="mallory"),
        ("write", "mcp/mail/wipe", b"{}"),
    ):
        assert not allows(token, wrong)
    key = ApproverKey.generate().public_key
    asking = run(*report, "--scopes-only", "--new", "approval", "--approver", base64url.encode(key)).out
    session, token = world.open(everything, asking.splitlines())
    assert allows(token, call("ben", "new words"))
    decision = judge.check(token.present(), *call("mallory", "new words"), audience="gw")
    assert decision.reason.name == "APPROVAL_REQUIRED"
