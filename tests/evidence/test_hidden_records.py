"""A copy of the log shows each record that the signer of a pack closed or cut off."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, public_keys
from sessauth.clock import FixedClock
from sessauth.evidence import question
from sessauth.evidence.reader.crypto import TrustedKeys
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.model.change import add_key
from tests.support.audit_log import SESSION, START_MS, change, decision, open_stream
from tests.support.changes import opening
from tests.support.evidence_packs import END_MS, OTHER, PackParts, make_pack

from .conftest import MadePack

TOKEN = ["aa" * 32, "dd" * 32]
RECORDS = {
    "lost": {"at_ms": START_MS + 2, "count": 3, "since_ms": START_MS, "why": "the queue was full"},
    "local": {"at_ms": START_MS + 2, "what": "credential_added", "name": "gateway", "role": "verifier"},
    "chain": {"at_ms": START_MS + 2, "blocks": [{"id": block, "payload": ""} for block in TOKEN]},
    "decision": decision(3, revision=2, blocks=TOKEN),
    "change": change(4, add_key("5", bytes(32)), 3),
    "stream": {
        "at_ms": START_MS + 5,
        "stream": "ee" * 16,
        "process": "w",
        "file": 0,
        "count": 1,
        "head": "ff" * 32,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadePack:
    """A pack of a session's log, with each kind of record that concerns it, and another's call behind."""
    scratch = tmp_path_factory.mktemp("hidden")
    folder = scratch / "audit"
    stream = open_stream(folder, FixedClock(START_MS))
    stream.append(layout.body("change", change(0, opening("1", SESSION, "*:**"), 2)))
    for kind, record in RECORDS.items():
        stream.append(layout.body(kind, record))
    stream.append(layout.body("decision", decision(6, session=OTHER.hex())))
    stream.close()
    wanted = question.of_session([folder], SESSION.hex(), 0, END_MS, "matching")
    make_pack(folder, scratch / "pack", wanted)
    keys = TrustedKeys(public_keys(folder / layout.PUBLIC_FILE))
    return MadePack((scratch / "pack").read_bytes(), keys, folder, scratch)


def forged(made: MadePack, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """Return the pack with other lines of its log, and all counts made right, signed by the log's key."""
    parts = PackParts.of(made.data)
    (name,) = parts.logs()
    lines = edit(parts[name].splitlines(keepends=True))
    parts[name] = b"".join(lines)
    document = json.loads(parts["manifest.json"])
    (stream,) = document["hosts"][0]["streams"]
    stream |= {"lines": len(lines), "closed": sum(line[:1] != b"{" for line in lines)}
    (session,) = document["sessions"]
    session |= {"allowed": parts[name].count(b'"allowed":true'), "receipt": "", "report": ""}
    parts.members = [each for each in parts.members if not each[0].startswith(("receipts/", "reports/"))]
    return parts.restated(**document).signed(AuditKey.load(made.folder / layout.KEY_FILE)).data()


@pytest.mark.parametrize("kind", RECORDS)
def test_a_closed_record_of_each_kind_is_found(made: MadePack, kind: str) -> None:
    """Lost records, keys and blocks of tokens are of the question as calls are."""

    def close(lines: list[bytes]) -> list[bytes]:
        marks = (b'"kind":"%b"' % kind.encode(), b"OPEN" if kind == "change" else b"")
        return [
            line[-67:-3] + b"\n" if marks[0] in line and b"open_session" not in line else line
            for line in lines
        ]

    data = forged(made, close)
    alone, compared = made.judged(data), made.judged(data, folders=[made.folder])

    assert data != made.data and {each.kind for each in alone.findings} <= {EvidenceFault.MISSING_STREAM}
    assert EvidenceFault.HIDDEN in {each.kind for each in compared.findings}


@pytest.mark.parametrize(("lines", "is_found"), [(12, False), (9, False), (6, True)])
def test_lines_that_were_cut_off_are_found(made: MadePack, lines: int, is_found: bool) -> None:
    """The copy goes on: records of the question behind the last line are a fault, and no others."""
    report = made.judged(forged(made, lambda all_lines: all_lines[:lines]), folders=[made.folder])

    assert (EvidenceFault.HIDDEN in {each.kind for each in report.findings}) is is_found
