"""A state folder and tokens that the code of commit 795bdd7 made: read and judged as that code did.

How they were made is in ``fixtures/README.md``.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from sessauth._fast._check import ProofKeys, ReplayTable
from sessauth.clock import FixedClock
from sessauth.model.change import Head
from sessauth.reasons import Level, Reason, Stage
from sessauth.server.writer.authorizer import CallRequest, WriterAuthorizer, WriterDecision
from sessauth.state import layout
from sessauth.state.host.folder import Owner, pid_namespace
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.environment import LmdbSource
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateQueries, StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.proof_forger import agreement
from tests.support.token_forger import id16

FIXTURES: Final = Path(__file__).parent / "fixtures"
BEFORE: Final[dict[str, Any]] = json.loads((FIXTURES / "state_of_before.json").read_text())
NOW: Final[int] = BEFORE["now_ms"]
TOKENS: Final = {name: bytes.fromhex(data) for name, data in BEFORE["tokens"].items()}
PERMIT: Final[str] = next(call["permit"] for call in BEFORE["calls_of_the_writer"] if "permit" in call)
MAP: Final = 4 << 20


@dataclass
class NoProofs:
    """A host without keys for proofs."""

    proofs: ProofKeys | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder as it was left, by a process of this PID namespace."""
    with tarfile.open(FIXTURES / "state_of_before.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    state = tmp_path / "state"
    state.chmod(layout.DIR_MODE)
    replace(Owner.read(state), pid_namespace=pid_namespace()).write(state)
    return state


@pytest.fixture
def writer(folder: Path) -> Iterator[StateWriter]:
    """Today's writer, which raises the format."""
    with StateWriter.open(folder, map_size=MAP, clock=FixedClock(NOW)) as opened:
        yield opened


def outcome(decision: Any) -> dict[str, Any]:
    """A decision in the form of the JSON file."""
    fields = {
        "reason": Reason(decision.reason).name,
        "stage": Stage(decision.stage).name,
        "level": Level(decision.level).name,
        **{name: getattr(decision, name) for name in ("index", "scope", "clause", "argument", "epoch")},
        "matched": [decision.matched_index, decision.matched_scope],
        "expires_at_ms": decision.expires_at_ms,
        "session": decision.session_id.hex(),
        "blocks": [block.hex()[:8] for block in decision.block_ids],
    }
    return {name: value for name, value in fields.items() if value not in ("", -1, 0, [], [-1, -1], "NONE")}


def hold_calls(source: LmdbSource, tmp_path: Path) -> None:
    """Judge every call by ``source``, and compare each decision with the one of before."""
    table = ReplayTable.create(tmp_path / "replay", 1 << 14, NOW - 60_000)
    host = agreement("verifier")
    keys = [(host.public, host.secret, NOW - 1_000, NOW + 3_600_000)]
    verifier = Verifier(source, audience="gateway", proofs=ProofKeys(id16("host"), keys, table))
    for call in BEFORE["calls"]:
        parts = {name: value for name, value in call.items() if name not in ("token", "expected")}
        parts |= {name: bytes.fromhex(parts[name]) for name in ("session", "proof") if name in parts}
        parts["arguments"] = parts.get("arguments", "").encode()
        decision = verifier._check(TOKENS[call["token"]], now_ms=NOW, **parts)
        assert decision.fault is None
        assert outcome(decision) == call["expected"], call


def state(reads: StateQueries) -> dict[str, Any]:
    """Return all of a state but its head, in the form of the JSON file."""
    before = BEFORE["state"]
    sessions = {name: reads.get_session(id16(name)) for name in before["sessions"]}
    permit = reads.permit(id16("spend"), bytes.fromhex(PERMIT)[16:])
    first = reads.outcome("change-1")
    assert permit is not None
    assert first is not None
    return {
        "sessions": {
            name: session
            and {
                "row": session.encode().hex(),
                "lease_deadline_ms": session.lease_deadline_ms,
                "open_permits": session.open_permits,
                "open_approvals": session.open_approvals,
            }
            for name, session in sessions.items()
        },
        "keys": [key.encode().hex() for key in reads.keys()],
        "approvals": [approval.encode().hex() for approval in reads.approvals()],
        "permit": permit.encode().hex(),
        "outcome": first.encode().hex(),
    }


def head(found: Head) -> dict[str, Any]:
    """A head in the form of the JSON file."""
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for name in BEFORE["state"]["head"]
        for value in [getattr(found, name)]
    }


def hold_state(source: LmdbSource, form: int) -> None:
    """Compare all that a source holds with what was held before; the format may have been raised."""
    assert state(StateQueries(source)) == {
        name: part for name, part in BEFORE["state"].items() if name != "head"
    }
    assert head(source.head()) == {**BEFORE["state"]["head"], "format": form}


def test_a_reader_opens_it_as_it_was_left(folder: Path, tmp_path: Path) -> None:
    """Nothing is raised: the reader knows the older format."""
    reader = StateReader.open(folder)
    hold_state(reader, 3)
    hold_calls(reader, tmp_path)
    reader.close()


def test_the_writer_raises_it_and_judges_alike(writer: StateWriter, tmp_path: Path) -> None:
    """Sessions, keys and decisions stay, and the whole state reads well."""
    hold_state(writer.source(), layout.FORMAT)
    hold_calls(writer.source(), tmp_path)
    counts = writer.run(lambda group: verify(group.rows))
    assert (counts.sessions, counts.permits, counts.approvals, counts.keys) == (15, 1, 2, 2)


def test_a_reader_judges_alike_behind_that_writer(writer: StateWriter, folder: Path, tmp_path: Path) -> None:
    """A reader of the raised folder: the same sessions and decisions, from another process's folder."""
    writer.close()
    reader = StateReader.open(folder)
    hold_state(reader, layout.FORMAT)
    hold_calls(reader, tmp_path)
    reader.close()


def test_the_writer_decides_what_costs_as_before(writer: StateWriter) -> None:
    """Budget, uses, approval and permit of before are what is left of them; each call takes its part."""
    authorizer = WriterAuthorizer(writer.source(), NoProofs(), cache_bytes=1 << 20)
    for call in BEFORE["calls_of_the_writer"]:
        parts = {name: part.encode() if isinstance(part, str) else part for name, part in call.items()}
        for name in ("token", "expected", "permit"):
            parts.pop(name, None)
        request = CallRequest("gateway-a", TOKENS[call["token"]], audience="gateway", **parts)
        permit = bytes.fromhex(call.get("permit", ""))

        def work(group: Group, request: CallRequest = request, permit: bytes = permit) -> WriterDecision:
            if permit:
                return authorizer.commit(group, request, permit)
            return authorizer.check(group, request)

        made = writer.decide(work, 1_024).result(10)
        more = {"permit": bool(made.permit), "approval": made.approval is not None}
        assert {**outcome(made.decision), **more} == call["expected"], call
