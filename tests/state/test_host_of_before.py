"""A home of commit f7d5cbf6: its state folder, tokens, receipt and evidence pack, read as it read them.

How they were made is in ``fixtures/README.md``.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from sessauth.clock import FixedClock
from sessauth.evidence.reader.crypto import read_keys
from sessauth.evidence.reader.verify import verify_pack
from sessauth.model.receipt import ReceiptState, SignedReceipt
from sessauth.model.receipt import verify as verify_receipt
from sessauth.state import layout
from sessauth.state.host.folder import Owner, pid_namespace
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.environment import LmdbSource
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier

FIXTURES: Final = Path(__file__).parent / "fixtures"
BEFORE: Final[dict[str, Any]] = json.loads((FIXTURES / "host_of_before.json").read_text())
NOW: Final[int] = BEFORE["now_ms"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home as the server left it, by a process of this PID namespace."""
    with tarfile.open(FIXTURES / "host_of_before.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    state = tmp_path / "state"
    state.chmod(layout.DIR_MODE)
    (state / layout.LOCK_FILE).touch()
    (state / layout.LOCK_FILE).chmod(layout.LOCK_MODE)
    owner = Owner.read(state)
    # The file was packed without the space that nothing used.
    os.truncate(state / layout.DATA_FILE, owner.data_bytes)
    replace(owner, pid_namespace=pid_namespace()).write(state)
    return tmp_path


def decided(source: LmdbSource) -> list[list[str]]:
    """Return the calls of before with the decisions of a verifier of today."""
    verifier = Verifier(source, audience="gateway")
    found = []
    for name, action, resource, arguments, *_ in BEFORE["calls"]:
        decision = verifier._check(BEFORE["tokens"][name], action, resource, arguments.encode(), now_ms=NOW)
        found.append([name, action, resource, arguments, decision.reason.name, decision.stage.name])
    return found


def test_its_calls_are_decided_as_before(home: Path) -> None:
    """A reader, the writer that raises the format and a reader after it decide alike; the state verifies."""
    reader = StateReader.open(home / "state")
    assert decided(reader) == BEFORE["calls"]
    reader.close()
    with StateWriter.open(home / "state", clock=FixedClock(NOW)) as writer:
        assert writer.head().format == layout.FORMAT
        assert decided(writer.source()) == BEFORE["calls"]
        assert writer.run(lambda group: verify(group.rows)).revoked == 3 + 40
    reader = StateReader.open(home / "state")
    assert decided(reader) == BEFORE["calls"]
    reader.close()


def test_its_tokens_have_their_text() -> None:
    """Each token reads, and has the same text again."""
    for text in BEFORE["tokens"].values():
        assert Token.parse(text).text == text


def test_its_receipt_and_its_pack_are_proven(home: Path) -> None:
    """The receipt says CLOSED by the service's key; the pack is proven by keys from elsewhere."""
    keys = {name: (home / name).read_text() for name in ("audit.pub", "keys.json")}
    signed = SignedReceipt.from_text((home / "receipt.txt").read_text().strip())
    receipt = verify_receipt(signed, keys["keys.json"])
    assert receipt.state is ReceiptState.CLOSED

    report = verify_pack(home / "session.pack", read_keys(keys))
    assert report.findings == []
    assert report.proven
    assert [reading.facts.session for reading in report.sessions] == [receipt.session_id.hex()]
