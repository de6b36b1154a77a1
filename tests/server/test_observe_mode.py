"""Observe mode over real sockets: who may open it, what it allows, and everybody who says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sessauth.audit.replay import replay
from sessauth.client import Client, SessionReport
from sessauth.client._live_state import EventKind
from sessauth.client._results import decision_from_message, read_check
from sessauth.decisions.outward import Outward, outward
from sessauth.errors import PermissionDenied, Rejected, UsageError
from sessauth.metrics import VerifierCollector
from sessauth.model.session import Session
from sessauth.reasons import Level, Reason
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.cli.conftest import Ran, invoke
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

SETTINGS = {"SESSAUTH_USAGE_ENABLED": "true", "SESSAUTH_AUDIT_ENABLED": "true"}
CEILING = ["read:files/**", 'write:files/** where path under "/srv" free *']
MINTED = ["read:**", "write:files/** free *"]
INSIDE = ("read", "files/a")
OUTSIDE = ("read", "mail/a")
ARGUMENT = ("write", "files/a", b'{"path":"/etc/passwd"}')


@dataclass
class World:
    """A server with usage and audit, its operator, an issuer, a gateway, and an embedded verifier."""

    home: Path
    operator: Client
    issuer: Client
    gateway: Client
    verifier: Verifier

    def open(self, **terms: object) -> tuple[Session, Token]:
        """Open a session in observe mode, unless ``terms`` say else, and mint a token of it."""
        given = {"subject": "agent", "ceiling": CEILING, "observe": True, **terms}
        session = self.operator.open_session(**given)
        return session, self.operator.mint(session.id, MINTED, ["gw"])

    def run(self, *args: object) -> Ran:
        """Run the command line as the operator."""
        return invoke("--home", self.home, "--timeout-ms", 10_000, *args)

    def report(self, session: Session, calls: int) -> SessionReport:
        """Return the report once it has as many allowed calls."""
        found: list[SessionReport] = []

        def adds_up() -> bool:
            found[:] = [self.operator.get_report(session.id)]
            return found[0].observation.allowed == calls

        assert wait_until(adds_up)
        return found[0]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One server for all tests of the module."""
    with home_folder() as home:
        made = initialise(home)
        file = CredentialFile(made.state_dir / "credentials.toml")
        issuer, gateway = file.add("ann", "issuer"), file.add("gw-1", "gateway", ["gw"])
        process = ServerProcess.start(home, **SETTINGS)
        caller = Caller(f"unix:{made.socket}", gateway)
        assert wait_until(lambda: serves(caller)), process.log
        caller.close()
        credentials = (made.credential_file.read_text().strip(), issuer, gateway)
        clients = [Client(f"unix:{made.socket}", each, timeout_ms=10_000) for each in credentials]
        with Verifier.embedded(made.state_dir, audience="gw") as verifier:
            yield World(home, *clients, verifier)
        for client in clients:
            client.close()
        process.kill()


def test_only_an_operator_opens_one(world: World) -> None:
    """An issuer, who may open sessions, is refused, and its own are enforced."""
    with pytest.raises(PermissionDenied, match="this credential may not do that"):
        world.issuer.open_session(subject="agent", ceiling=CEILING, observe=True)
    assert not world.issuer.open_session(subject="agent", ceiling=CEILING).observe


def test_server_and_embedded_verifier_allow_and_name_the_refusal(world: World) -> None:
    """A plain yes with the place of the refusal; the token's own scopes deny as ever."""
    _, token = world.open()
    presented = token.present()
    for judge in (partial(world.gateway.check, presented), partial(world.verifier.check, presented)):
        inside, outside, argument = judge(*INSIDE), judge(*OUTSIDE), judge(*ARGUMENT)
        assert inside.allowed and not inside.observed and inside.level == Level.NONE
        for decision in (outside, argument):
            assert decision and decision.observed and decision.reason == Reason.ALLOWED
            assert (decision.level, decision.index, decision.matched_index) == (Level.CEILING, 0, 0)
            assert outward(decision) is Outward.ALLOWED
            decision.raise_if_denied()
            shown = decision.to_dict()
            assert shown["failed"] is None and shown["observed"]["level"] == "CEILING"
        assert (argument.scope, argument.clause, argument.argument) == (1, 0, "path")
        assert "in observe mode, since ceiling layer 0" in argument.explain(presented)
        denied = judge("deploy", "files/a")
        assert not denied.allowed and not denied.observed and denied.level == Level.BLOCK


def test_both_readers_of_a_client_agree() -> None:
    """The decoder without protobuf objects reads an observed allow as protobuf's own does."""
    failed = pb.Position(level=1, index=0, scope=1, clause=0, argument="path")
    message = pb.Decision(
        allowed=True, reason=1, failed=failed, matched=pb.Position(level=2, index=0, clause=-1)
    )
    read = read_check(pb.CheckResponse(decision=message).SerializeToString())
    assert read == decision_from_message(message)
    assert read.observed and (read.scope, read.argument) == (1, "path")


def test_minting_beyond_the_ceiling_warns(world: World) -> None:
    """A scope outside of the ceiling is minted; ``strict`` refuses it, and an enforced session does."""
    session, _ = world.open(ceiling=CEILING[:1])
    made = world.operator.mint(session.id, MINTED, ["gw"])
    assert "a scope may be wider than the session's ceiling, which is in observe mode" in made.warnings
    with pytest.raises(Rejected, match="is wider than"):
        world.operator.mint(session.id, MINTED, ["gw"], strict=True)
    world.operator.narrow(session.id, enforce=True)
    with pytest.raises(Rejected, match="is wider than"):
        world.operator.mint(session.id, MINTED, ["gw"])


def test_a_parent_and_a_child_each_by_its_own_mode(world: World) -> None:
    """A child of an observed session is enforced, and an enforced parent holds an observed child."""
    parent, _ = world.open()
    child, _ = world.open(parent_id=parent.id, observe=False)
    token = world.operator.mint(child.id, MINTED, ["gw"])
    assert not world.gateway.check(token.present(), *OUTSIDE)
    held, _ = world.open(observe=False)
    _, token = world.open(parent_id=held.id, ceiling=["read:files/a"])
    assert world.gateway.check(token.present(), "read", "files/b").observed
    refused = world.gateway.check(token.present(), *OUTSIDE)
    assert (refused.allowed, refused.reason, refused.level, refused.index) == (
        *(False, Reason.OUT_OF_SCOPE, Level.CEILING),
        1,
    )


def test_the_report_lists_and_learns(world: World) -> None:
    """Counts and places at the top; what is enough for the minted scopes has these calls too."""
    session, token = world.open()
    presented = token.present()
    for judge in (world.gateway.check, world.gateway.check, world.verifier.check):
        assert judge(presented, *OUTSIDE)
    for call in (INSIDE, ARGUMENT):
        assert world.gateway.check(presented, *call)
    # An embedded verifier without a channel to the server reports nothing.
    report = world.report(session, 4)
    assert (report.session.observe, report.observation.observed) == (True, 3)
    ran = world.run("session", "report", session.id.hex())
    top = ran.out.splitlines()[:4]
    assert top[0].startswith("OBSERVE MODE: 1 of 1 session(s)") and "refused 3 of 4 allowed calls" in top[0]
    assert top[2].split() == ["2", "0", "read", "mail/a"]
    assert top[3].split() == ["1", "0", "write", "files/a", "path"]
    document = world.run("session", "report", session.id.hex(), "--fit", "exact", "--json").json
    assert document["sessions"][0]["observed"] == 3
    assert [(row["layer"], row["argument"], row["calls"]) for row in document["usage"]["observed"]] == [
        *((0, "", 2), (0, "path", 1))
    ]
    layers = {layer["kind"]: layer for layer in document["usage"]["layers"]}
    suggested = {kind: layers[kind]["suggestions"]["exact"]["scopes"] for kind in layers}
    assert any("mail/a" in scope for scope in suggested["minted"])
    assert not any("mail/a" in scope for scope in suggested["ceiling"]) and suggested["ceiling"]
    assert layers["ceiling"]["calls_by_unknown_scope"] == 0
    report_scopes = ("session", "report", session.id.hex(), "--scopes-only")
    ceiling, minted = world.run(*report_scopes), world.run(*report_scopes, "--layer", "minted")
    assert "mail" not in ceiling.out and "observe mode alone allowed 3 calls outside" in ceiling.err
    assert "read:mail" in minted.out and "observe mode" not in minted.err


def test_it_is_loud_and_ends_by_a_narrowing(world: World) -> None:
    """Open warns, get and list and watch say it; enforced at once, and the receipt still tells."""
    opened = world.run(
        "session", "open", "--subject", "agent", "--ceiling", CEILING[0], "--observe", "--quiet"
    )
    assert opened.code == 0 and opened.err.startswith("warning: observe mode:")
    name = opened.out.strip()
    session = world.operator.get_session(bytes.fromhex(name))
    token = world.operator.mint(session.id, MINTED, ["gw"]).present()
    assert "observe mode  its ceiling refuses nothing" in " ".join(
        world.run("session", "get", name).out.split("\n")
    )
    assert "ACTIVE OBSERVE" in world.run("session", "list", "--limit", 1000).out
    assert world.gateway.check(token, *OUTSIDE).observed
    with pytest.raises(UsageError, match="ceiling"):
        world.operator.narrow(session.id)
    assert world.run("session", "narrow", name).code == 2
    assert world.run("session", "narrow", name, "--enforce").code == 0
    assert not world.gateway.check(token, *OUTSIDE)
    assert "until" in world.run("session", "get", name).out
    with pytest.raises(Rejected, match="not in observe mode"):
        world.operator.narrow(session.id, enforce=True)
    ended = world.run("session", "end", name)
    assert "it was in observe mode" in ended.out
    with world.operator.watch_sessions([session.id], after_revision=session.revision - 1) as watch:
        events = {}
        for event in watch:
            events[event.kind] = event
            if event.kind is EventKind.ENDED:
                break
    assert events[EventKind.OPENED].observe and not events[EventKind.OPENED].enforce
    assert events[EventKind.NARROWED].enforce


def test_the_audit_log_has_each_such_call(world: World) -> None:
    """Found by its answer, shown with its place, exported as such; and made again it comes out the same."""
    session, token = world.open()
    presented = token.present()
    assert world.gateway.check(presented, *INSIDE)
    decision = world.gateway.check(presented, *ARGUMENT)
    paid = world.operator.mint(session.id, ["pay:** needs uses(2)"], ["gw"]).present()
    assert world.gateway.check(paid, "pay", "invoices/7").observed
    folder = world.home / "audit"
    query: Callable[[], Ran] = partial(
        world.run, "audit", "query", "--answer", "observed", "--session", session.id.hex(), "--json"
    )
    assert wait_until(lambda: len(query().json["records"]) == 2)
    (record,) = [each for each in query().json["records"] if each["action"] == "write"]
    assert record["id"] == decision.decision_id.hex()
    assert (record["allowed"], record["at"]["level"], record["at"]["argument"]) == (True, "CEILING", "path")
    shown = world.run("decision", "show", decision.decision_id.hex()).out
    assert shown.startswith("ALLOWED by observe mode alone") and "argument `path`" in shown
    exported = world.run("audit", "export", "--session", session.id.hex()).out.splitlines()
    events = [json.loads(line) for line in exported]
    assert any(event.get("message", "").startswith("allowed in observe mode write") for event in events)
    assert any(event.get("status_detail", "").startswith("observe mode: its ceiling") for event in events)
    standings: list[str] = []
    replay(folder, session_id=session.id, on_decision=lambda _, call: standings.append(call.standing.name))
    assert len(standings) == 3 and not {"FLIPPED", "DIFFERENT_REASON"} & set(standings)


def test_a_poisoned_report_names_the_session_that_brought_it(world: World, tmp_path: Path) -> None:
    """One hijacked session of six: named, not suggested, and refused by the ceiling on trial."""
    honest, poison = b'{"to":"ana"}', b'{"to":"eve"}'
    sessions = []
    for number in range(6):
        session, token = world.open(purpose="poisoned")
        calls = [honest, poison] if number == 3 else [honest]
        for arguments in calls:
            assert world.gateway.check(token.present(), "write", "files/mail", arguments).observed
        world.report(session, len(calls))
        sessions.append(session)
    hijacked = sessions[3].id.hex()
    ran = world.run("session", "report", "--purpose", "poisoned")
    (line,) = [line for line in ran.out.splitlines() if '"eve"' in line and hijacked in line]
    assert "to" in line.split()
    ceiling, kept = tmp_path / "next.scopes", tmp_path / "kept"
    only = world.run("session", "report", "--purpose", "poisoned", "--scopes-only", "--layer", "minted")
    ceiling.write_text(only.out)
    kept.write_bytes(honest + b"\n" + poison + b"\n")
    assert "ana" in only.out and "eve" not in only.out

    def trial() -> dict[str, int]:
        files = ("--ceiling-file", ceiling, "--arguments", kept)
        found: dict[str, int] = world.run(
            "audit", "replay", "--dir", world.home / "audit", "--purpose", "poisoned", *files, "--json"
        ).json["trial"]
        return found

    assert wait_until(lambda: trial()["sessions"] == 6 and trial()["admitted"] == 6)
    (refused,) = trial()["refused_calls"]  # type: ignore[misc]
    assert (refused["calls"], refused["resource"], refused["argument"]) == (1, "files/mail", "to")


def test_a_counter_counts_them(world: World) -> None:
    """Observed allows apart from all allows."""
    _, token = world.open()
    registry = CollectorRegistry()
    registry.register(VerifierCollector(world.verifier))
    for call in (INSIDE, OUTSIDE, OUTSIDE, ("deploy", "files/a")):
        world.verifier.check(token.present(), *call)
    assert registry.get_sample_value("sessauth_observed_allows_total") == 2
