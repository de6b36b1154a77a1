"""Over real sockets: what server, workers and embedded verifiers decide stands once in the audit files."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.audit.replay import replay
from sessauth.audit.verify.verify import verify
from sessauth.audit.write.stream import AuditOptions
from sessauth.decisions.decision import Decision, DecisionBase
from sessauth.errors import ConfigError
from sessauth.reasons import Reason, Stage
from sessauth.server import config as server_config
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import Initialised, initialise
from sessauth.server.process.supervisor import Worker
from sessauth.v1 import approval_service_pb2 as approvals
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.recorded import Failing, records
from tests.support.service import (
    Caller,
    RpcError,
    ServerProcess,
    Service,
    home_folder,
    running,
    serves,
    wait_until,
)
from tests.support.watching import Stream

CHECK, BATCH = "AuthorizationService/Check", "AuthorizationService/CheckBatch"
SETTINGS = {"SESSAUTH_SERVER_WORKERS": "2", "SESSAUTH_AUDIT_ENABLED": "true"}


def minted(operator: Caller, *scopes: str) -> tuple[bytes, bytes]:
    """Open a session and mint for it; returns its id and the token's text."""
    opening = sessions.OpenSessionRequest(subject="s", ceiling=["read:files/**"])
    session_id = operator.call("SessionService/OpenSession", opening).session.id
    request = tokens.MintRequest(session_id=session_id, scopes=scopes or ["read:files/**"], audience=["gw"])
    return session_id, operator.call("TokenService/Mint", request).token.encode()


def item(token: bytes, resource: str = "files/a", **more: object) -> checks.CheckItem:
    """One call."""
    return checks.CheckItem(token=token, action=b"read", resource=resource.encode(), **more)


def check(caller: Caller, checked: checks.CheckItem) -> checks.Decision:
    """Have one call judged."""
    return caller.call(CHECK, checks.CheckRequest(item=checked, audience="gw")).decision


class Recorded:
    """A server process with audit and two workers, and what is asked of it."""

    def __init__(self, made: Initialised) -> None:
        """Start it and wait until all serve."""
        self.made = made
        self.audit = made.home / "audit"
        credential = made.credential_file.read_text().strip()
        self.process = ServerProcess.start(made.home, **SETTINGS)
        self.operator = Caller(f"unix:{made.socket}", credential)
        self.workers = [Caller(f"unix:{made.home}/run/check-{n}.sock", credential) for n in range(2)]
        self.everyone = [self.operator, *self.workers]
        assert wait_until(lambda: all(map(serves, self.everyone))), self.process.log
        self.decisions: list[Any] = []
        self.local: list[Decision] = []

    def ask_all_ways(self) -> None:
        """Have calls judged every way that there is, by every process, and keep the answers."""
        _, token = minted(self.operator)
        _, costly = minted(self.operator, "read:files/** needs uses(30)")
        for caller in self.everyone:
            for checked in (item(token), item(token, "other"), item(b"none"), item(costly)):
                self.decisions.append(check(caller, checked))
            items = [item(token), item(costly), item(token, "other"), item(costly)]
            self.decisions += caller.call(
                BATCH, checks.CheckBatchRequest(items=items, audience="gw")
            ).decisions
            stream = Stream(caller)
            for number, checked in enumerate((item(token), item(costly))):
                stream.send(number, checked, watch=False)
                self.decisions.append(stream.next().decision)
            stream.call.cancel()
            self._permit(caller, costly)
        self._withdrawals()
        self._embedded(token, costly)

    def _permit(self, caller: Caller, costly: bytes) -> None:
        first = check(caller, item(costly, permit_ms=5_000))
        request = checks.CommitRequest(permit=first.permit, item=item(costly), audience="gw")
        self.decisions += [first, caller.call("AuthorizationService/Commit", request).decision]

    def _withdrawals(self) -> None:
        """Watch a call in each process, and end its session."""
        session_id, token = minted(self.operator)
        streams = [Stream(caller) for caller in self.everyone]
        for stream in streams:
            stream.send(1, item(token))
            self.decisions.append(stream.next().decision)
        self.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
        for stream in streams:
            self.decisions.append(stream.next().decision)
            stream.call.cancel()

    def _embedded(self, token: bytes, costly: bytes) -> None:
        """Ask an embedded verifier with the server behind it; what it decides itself is kept apart."""
        file = CredentialFile(self.made.state_dir / "credentials.toml")
        verifier = Verifier.embedded(
            self.made.state_dir,
            audience="gw",
            server=self.made.socket,
            credential=file.add("gate", "gateway", ("gw",)),
            # An answer that came too late would be recorded there, and be none here.
            timeout_ms=10_000,
            audit=AuditOptions(self.made.home / "embedded"),
        )
        calls = [(each, "read", "files/a") for each in (token, costly, b"none")]
        with verifier:
            made: list[DecisionBase] = [verifier.check(*call) for call in calls]
            # Until the server has read the new credential there is no answer, and the denial here stands.
            assert wait_until(lambda: made.append(verifier.check(*calls[1])) or made[-1].allowed)
            made += list(verifier.check_batch(calls))
        self.local = [each for each in made if isinstance(each, Decision)]
        self.decisions += [each for each in made if not isinstance(each, Decision)]

    def stop(self) -> None:
        """End it in order."""
        for caller in self.everyone:
            caller.close()
        assert self.process.terminate() == 0, self.process.log


@pytest.fixture(scope="module")
def ended() -> Iterator[Recorded]:
    """A server that was asked all ways and has ended."""
    with home_folder() as home:
        recorded = Recorded(initialise(home))
        try:
            recorded.ask_all_ways()
            recorded.stop()
            yield recorded
        finally:
            recorded.process.kill()


def test_every_answer_is_recorded_once(ended: Recorded) -> None:
    """Unary, batch, stream, at a price and withdrawn: each decision that was answered, and no other."""
    found = Counter(record["id"] for record in records(ended.audit, "decision"))

    assert len(ended.decisions) >= 40
    assert found == Counter(decision.decision_id.hex() for decision in ended.decisions)


def test_a_record_says_what_was_answered(ended: Recorded) -> None:
    """Answer, reason, stage, session, epoch and blocks are those of the response."""
    found = {record["id"]: record for record in records(ended.audit, "decision")}
    for decision in ended.decisions:
        record = found[decision.decision_id.hex()]
        assert record["allowed"] == decision.allowed
        assert record["reason"] == Reason(decision.reason).name
        assert record["stage"] == Stage(decision.stage).name
        assert record.get("session", "") == decision.session_id.hex()
        assert record.get("blocks", []) == [block_id.hex() for block_id in decision.block_ids]
        assert record["revision"] == decision.revision
    withdrawn = [record for record in found.values() if record.get("watched")]
    assert [record["reason"] for record in withdrawn] == ["SESSION_ENDED"] * 3


def test_streams_have_the_changes_and_no_token(ended: Recorded) -> None:
    """The control process's stream has every change once; no file holds a token, nor a worker's a change."""
    changes = records(ended.audit, "change")
    seqs = [record["seq"] for record in changes]

    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert {"open_session", "end_session", "consume", "settle_permit"} <= {each["change"] for each in changes}
    assert sorted(record["process"] for record in records(ended.audit, "begin")) == [
        "control",
        "worker-0",
        "worker-1",
    ]
    assert records(ended.audit, "lost") == []
    whole = b"".join(path.read_bytes() for path in ended.audit.glob("*.jsonl"))
    assert b"sessauth_t" not in whole
    chains = records(ended.audit, "chain")
    named = {block for record in records(ended.audit, "decision") for block in record.get("blocks", [])}
    assert {block["id"] for record in chains for block in record["blocks"]} == named


def test_what_was_recorded_verifies(ended: Recorded) -> None:
    """Nothing is found in the streams of a server and of an embedded verifier that ended in order."""
    for folder in (ended.audit, ended.made.home / "embedded"):
        assert verify(folder).findings == ()


def test_an_embedded_verifier_records_what_it_decides(ended: Recorded) -> None:
    """The server records its answers, an embedded verifier its own decisions, each once."""
    found = Counter(record["id"] for record in records(ended.made.home / "embedded", "decision"))

    assert len(ended.local) >= 4
    assert found == Counter(decision.decision_id.hex() for decision in ended.local)


def test_a_kill_loses_no_change() -> None:
    """A commit before a kill is in the stream of the next server, if not of the killed one."""
    with home_folder() as home:
        made = initialise(home)
        credential = made.credential_file.read_text().strip()
        for number in range(2):
            process = ServerProcess.start(home, SESSAUTH_AUDIT_ENABLED="true")
            operator = Caller(f"unix:{made.socket}", credential)
            assert wait_until(lambda caller=operator: serves(caller)), process.log
            opening = sessions.OpenSessionRequest(subject="s", ceiling=["read:x"])
            opened = [operator.call("SessionService/OpenSession", opening).revision for _ in range(5)]
            operator.close()
            process.kill() if number == 0 else process.terminate()
        seqs = [record["seq"] for record in records(home / "audit", "change")]
        revisions = {record["revision"] for record in records(home / "audit", "change")}
        faults = verify(home / "audit").faults

    assert set(opened) <= revisions
    assert set(seqs) == set(range(min(seqs), max(seqs) + 1))
    assert len(set(seqs)) >= 10
    assert faults == ()


class Sick:
    """A server in this process whose audit stream can be made to fail."""

    def __init__(self, service: Service) -> None:
        """Take over its stream."""
        assert service.control is not None
        self.control = service.control
        self.operator = service.operator
        self.session_id, self.token = minted(self.operator)
        self.audit = service.control.subsystems.recorder.audit
        assert self.audit is not None and self.audit._stream is not None
        self.stream = Failing(self.audit._stream)
        self.audit._stream = self.stream  # type: ignore[assignment]

    def fail(self, full: bool) -> None:
        """Fill the disk, or make room."""
        self.stream.full = full
        assert wait_until(lambda: self.audit is not None and self.audit.healthy is not full)


@pytest.fixture(scope="module")
def sick() -> Iterator[Sick]:
    """A server with audit on."""
    with running(audit={"enabled": True}) as service:
        yield Sick(service)


def test_no_authority_is_given_while_nothing_is_recorded(sick: Sick) -> None:
    """Sessions and tokens are refused with a word and the knob; checks, narrowings and ends go on."""
    sick.fail(True)
    session, operator = sick.session_id, sick.operator
    giving = (
        ("SessionService/OpenSession", sessions.OpenSessionRequest(subject="s", ceiling=["read:x"])),
        ("SessionService/ResumeSession", sessions.ResumeSessionRequest(session_id=session)),
        ("SessionService/UpdateFacts", sessions.UpdateFactsRequest(session_id=session, remove=["x"])),
        (
            "TokenService/Mint",
            tokens.MintRequest(session_id=session, scopes=["read:files/a"], audience=["gw"]),
        ),
        ("ApprovalService/GrantApproval", approvals.GrantApprovalRequest(session_id=session)),
    )
    for rpc, request in giving:
        with pytest.raises(RpcError) as refused:
            operator.call(rpc, request)
        assert (refused.value.code, refused.value.word) == (
            grpc.StatusCode.UNAVAILABLE,
            "AUDIT_UNAVAILABLE",
        ), rpc
        assert "audit.when_full" in refused.value.message
    assert check(operator, item(sick.token)).allowed
    narrowing = sessions.NarrowSessionRequest(session_id=session, ceiling=["read:files/a"])
    assert operator.call("SessionService/NarrowSession", narrowing).revision
    ending = sessions.EndSessionRequest(session_id=session)
    assert operator.call("SessionService/EndSession", ending).revision

    sick.fail(False)
    sick.session_id, sick.token = minted(operator)
    assert check(operator, item(sick.token)).allowed


def test_a_worker_that_loses_decisions_stops_minting_too(sick: Sick) -> None:
    """The control process gives no authority while a worker says that it can't record."""
    sick.control.supervisor.workers.append(worker := Worker(sick.control._config, 0, sick.control._workers))
    try:
        worker.records = False
        with pytest.raises(RpcError, match="a worker"):
            minted(sick.operator)
        worker.records = True
        assert minted(sick.operator)
    finally:
        sick.control.supervisor.workers.clear()


def test_a_worker_that_is_ready_may_be_sick(sick: Sick) -> None:
    """``ready`` does not undo ``unrecorded``; only ``alive`` does."""
    worker = Worker(sick.control._config, 0, sick.control._workers)
    says = subprocess.Popen(
        ["printf", "%s", "unrecorded\nready\n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    worker._process = says
    worker._listen(says)
    said = (worker.ready.is_set(), worker.records)
    worker.stop(1)

    assert said == (True, False)


def test_a_watch_beyond_the_limit_is_recorded() -> None:
    """It is denied without a look at the token; that is a decision too, and replay takes it as it is."""
    with running(audit={"enabled": True}, limits={"watched_calls": 1}) as service:
        folder = service.control._config.audit_dir
        _, token = minted(service.operator)
        opened = Stream(service.operator)
        opened.send(1, item(token))
        made = [opened.next().decision]
        opened.send(2, item(token, "files/b"))
        made.append(opened.next().decision)
        opened.call.cancel()
        assert wait_until(lambda: len(records(folder, "decision")) == 2)
        record = records(folder, "decision")[1]
        report = replay(folder)

    assert [decision.allowed for decision in made] == [True, False]
    assert record["id"] == made[1].decision_id.hex()
    assert (record["reason"], record["stage"]) == ("MALFORMED_REQUEST", "SCOPE")
    assert record["at"]["argument"] == "watch"
    assert (record["resource"], record["audience"]) == ("files/b", "gw")
    assert (report.decisions, report.findings) == (2, [])


def test_settings_are_read_and_held_to_their_bounds() -> None:
    """A share is a number, also from the environment; what is out of range is refused by its name."""
    config = server_config.load(Path("/nowhere"), {"SESSAUTH_AUDIT_SAMPLE_ALLOWS": "0.25"})
    assert config.audit.sample_allows == 0.25
    assert config.audit_dir == Path("/nowhere/audit")
    assert server_config.from_dict({"audit": {"sample_allows": 0}}).audit.sample_allows == 0.0
    for wrong in ({"sample_allows": 2}, {"sample_allows": "x"}, {"when_full": "x"}, {"queue_bytes": 1}):
        with pytest.raises(ConfigError, match=f"audit.{next(iter(wrong))}"):
            server_config.from_dict({"audit": wrong})
    with pytest.raises(ConfigError, match="SESSAUTH_AUDIT_SAMPLE_ALLOWS"):
        server_config.load(Path("/nowhere"), {"SESSAUTH_AUDIT_SAMPLE_ALLOWS": "much"})
