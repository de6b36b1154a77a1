"""Packs: what they show, what they close, and what their verification says of each."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey
from sessauth.crypto.keys import IssuerKey
from sessauth.errors import NotFound, UsageError
from sessauth.evidence import question
from sessauth.evidence.pack import write_pack
from sessauth.evidence.reader.crypto import NoKeys, TrustedKeys, by_id, read_keys
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.evidence.reader.verify import verify_pack
from tests.support.audit_log import SESSION, START_MS
from tests.support.evidence_packs import (
    CHILD,
    END_MS,
    OTHER,
    PURPOSE,
    PackParts,
    make_pack,
    session_question,
    sources,
)
from tests.support.receipts import CLOSED, SERVICE
from tests.support.resigned_log import reseal

from .conftest import MadePack


def kinds(findings: list[object]) -> set[EvidenceFault]:
    """Return the kinds of findings."""
    return {finding.kind for finding in findings}  # type: ignore[attr-defined]


def test_a_pack_has_the_session_its_children_and_its_receipt(pack: MadePack) -> None:
    """Calls, denials, claims and changes are counted; another session's calls are closed."""
    report = pack.judged(pack.data)
    of = {each.facts.session: each for each in report.sessions}

    assert report.proven and set(of) == {SESSION.hex(), CHILD.hex()}
    assert of[SESSION.hex()].facts.counts() == {"allowed": 9, "denied": 1, "claimed": 1, "changes": 3}
    receipt = of[SESSION.hex()].receipt
    assert receipt is not None and (receipt.state, receipt.revision) == ("CLOSED", 6)
    closed, shown = (sum(getattr(each, name) for each in report.streams) for name in ("closed", "shown"))
    assert closed == 27 and sum(each.proven for each in report.streams) == shown
    assert OTHER.hex() not in pack.data.decode("latin-1").replace(opening_of_other(pack), "")


def opening_of_other(pack: MadePack) -> str:
    """Return the line that opens the other session, between others up to one signature."""
    lines = pack.data.decode("latin-1").splitlines()
    return next(line for line in lines if OTHER.hex() in line)


def test_anybody_opens_it_with_tar(pack: MadePack, tmp_path: Path) -> None:
    """It is a tar archive; whole files of the log are byte for byte what was written."""
    file = tmp_path / "pack.tar"
    file.write_bytes(pack.data)
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path, filter="data")

    assert "sessauth evidence verify" in (tmp_path / "README.txt").read_text("ascii")
    whole = [path for path in (tmp_path / "log/000").iterdir() if _is_whole(path)]
    assert whole and all(path.read_bytes() == (pack.folder / path.name).read_bytes() for path in whole)


def _is_whole(path: Path) -> bool:
    return all(line.startswith(b"{") for line in path.read_bytes().splitlines())


def test_the_same_question_has_the_same_bytes(pack: MadePack, tmp_path: Path) -> None:
    """Nothing of the machine is in a pack."""
    make_pack(pack.folder, tmp_path / "again", session_question(pack.folder))

    assert (tmp_path / "again").read_bytes() == pack.data


def test_no_text_of_an_agent_names_or_steers_anything(log: Path, tmp_path: Path) -> None:
    """A purpose that would move a cursor is escaped, and in the manifest alone."""
    wanted = question.of_purpose([log], PURPOSE, 0, END_MS, "signed")
    make_pack(log, tmp_path / "pack", wanted)
    data = (tmp_path / "pack").read_bytes()

    assert wanted.sessions == {SESSION.hex(), CHILD.hex()}
    assert b"\x1b" not in data
    assert json.loads(PackParts.of(data)["manifest.json"])["question"]["purpose"] == PURPOSE


def test_all_shows_all_and_matching_least(log: Path, tmp_path: Path) -> None:
    """An option chooses what is shown beside the question; with least, some records are only vouched for."""
    reports = {}
    for show in ("matching", "signed", "all"):
        trusted = make_pack(log, tmp_path / show, session_question(log, show))
        reports[show] = verify_pack(tmp_path / show, trusted)
        assert reports[show].proven
    closed = {show: sum(each.closed for each in report.streams) for show, report in reports.items()}
    vouched = {show: sum(each.vouched for each in report.streams) for show, report in reports.items()}

    assert closed["matching"] > closed["signed"] > closed["all"] == 0
    assert vouched["matching"] > vouched["signed"] == vouched["all"] == 0


def test_a_time_has_its_files_alone(log: Path, tmp_path: Path) -> None:
    """Files before and behind are left out; what lies between is whole."""
    whole = question.of_time(0, END_MS, "signed")
    trusted = make_pack(log, tmp_path / "whole", whole)
    late = make_pack(log, tmp_path / "late", question.of_time(START_MS + 12_000, END_MS, "signed"))
    reports = [verify_pack(tmp_path / name, keys) for name, keys in (("whole", trusted), ("late", late))]

    assert all(report.proven for report in reports)
    sessions = [{each.facts.session for each in report.sessions} for report in reports]
    assert sessions == [{SESSION.hex(), OTHER.hex(), CHILD.hex()}, {SESSION.hex()}]
    first = {name for name in PackParts.of((tmp_path / "late").read_bytes()).logs() if "-000000" in name}
    assert len(first) == 1


def test_it_proves_nothing_by_its_own_keys(pack: MadePack) -> None:
    """Without a key from elsewhere nothing is proven, nor by another one; nor is a receipt by another's."""
    stranger = AuditKey.generate().public_key
    none = pack.judged(pack.data, TrustedKeys())
    other = pack.judged(pack.data, TrustedKeys(by_id([stranger])))
    issuer = TrustedKeys(pack.trusted.audit, by_id([IssuerKey.generate().public_key]))

    assert kinds(none.findings) == {EvidenceFault.NO_KEY}
    assert {EvidenceFault.UNTRUSTED_KEY, EvidenceFault.BAD_CHECKPOINT} <= kinds(other.findings)
    assert kinds(pack.judged(pack.data, issuer).findings) == {EvidenceFault.BAD_RECEIPT}


def test_a_call_behind_the_end_is_found(log: Path, tmp_path: Path) -> None:
    """A log that a holder of its key wrote anew can't have a session that outlived its end."""

    def edit(record: dict[str, object]) -> dict[str, object]:
        late = record["kind"] == "decision" and record.get("revision") == 6 and "session" in record
        return {**record, "allowed": True, "reason": "ALLOWED"} if late else record

    forged = tmp_path / "forged"
    reseal(log, forged, edit)
    trusted = make_pack(forged, tmp_path / "pack", session_question(forged))
    report = verify_pack(tmp_path / "pack", trusted)

    assert kinds(report.findings) == {EvidenceFault.SURVIVED, EvidenceFault.CHANGED}
    (found,) = (each for each in report.findings if each.kind is EvidenceFault.SURVIVED)
    assert found.line > 0 and found.n > 0 and "revision 6" in found.words


def test_a_copy_of_the_log_finds_what_the_signer_hid(pack: MadePack, tmp_path: Path) -> None:
    """The signer of packs can close a record of the question; the log itself shows it."""
    parts, key = PackParts.of(pack.data), AuditKey.load(pack.folder / layout.KEY_FILE)
    name = next(name for name in parts.logs() if b"SESSION_ENDED" in parts[name])
    lines = parts[name].splitlines(keepends=True)
    hidden = [line[-67:-3] + b"\n" if b'"kind":"decision"' in line else line for line in lines]
    parts[name] = b"".join(hidden)
    document = json.loads(parts["manifest.json"])
    document["sessions"][0] |= {"denied": 0, "claimed": 0}
    stream = next(each for each in document["hosts"][0]["streams"] if each["stream"] in name)
    stream["closed"] += sum(one != other for one, other in zip(lines, hidden, strict=True))
    forged = parts.restated(**document).signed(key).data()

    assert pack.judged(forged).proven
    assert kinds(pack.judged(forged, folders=[pack.folder]).findings) == {EvidenceFault.HIDDEN}
    assert pack.judged(pack.data, folders=[pack.folder.parent]).proven


@pytest.mark.parametrize("asked", ["session", "purpose"])
def test_a_session_that_the_question_leaves_out_is_found(log: Path, tmp_path: Path, asked: str) -> None:
    """The signer of a pack can't hide a session by not naming it in the question."""
    made = session_question(log, "all")
    less = frozenset({SESSION.hex()})
    if asked == "purpose":
        made, less = question.of_purpose([log], PURPOSE, 0, END_MS, "all"), frozenset()
    for show in ("all", "matching"):
        to = tmp_path / show
        trusted = make_pack(log, to, replace(made, sessions=less, show=show))
        assert kinds(verify_pack(to, trusted, folders=[log]).findings) == {EvidenceFault.HIDDEN}
        shown = verify_pack(to, trusted).findings
        assert [each.kind for each in shown] == [EvidenceFault.HIDDEN] * (show == "all")
    make_pack(log, tmp_path / "none", replace(session_question(log), sessions=frozenset()))
    assert kinds(verify_pack(tmp_path / "none", trusted).findings) == {EvidenceFault.BAD_MANIFEST}


def test_another_log_is_not_its_copy(pack: MadePack, tmp_path: Path) -> None:
    """A copy that was changed, or lacks a file, is found."""
    copy = tmp_path / "copy"
    shutil.copytree(pack.folder, copy)
    file = sorted(copy.glob("*-000001.jsonl"))[0]
    file.write_bytes(file.read_bytes().replace(b'"read"', b'"list"', 1))
    changed = pack.judged(pack.data, folders=[copy])
    file.unlink()
    missing = pack.judged(pack.data, folders=[copy])

    assert kinds(changed.findings) == {EvidenceFault.CHANGED}
    assert kinds(missing.findings) == {EvidenceFault.MISSING_FILE}


def test_an_anchor_from_elsewhere_is_found(pack: MadePack) -> None:
    """A chain that was noted before must be that of a line."""
    head = PackParts.of(pack.data)
    name = head.logs()[-1]
    chain = bytes.fromhex(head[name][-67:-3].decode())

    assert pack.judged(pack.data, heads=[chain]).proven
    assert kinds(pack.judged(pack.data, heads=[bytes(32)]).findings) == {EvidenceFault.TRUNCATED}


def test_a_damaged_log_makes_no_proof(log: Path, tmp_path: Path) -> None:
    """A change or a removal in the folder before the pack was made is found in the pack."""
    changed = tmp_path / "changed"
    shutil.copytree(log, changed)
    for file in changed.glob("*.jsonl"):
        file.write_bytes(file.read_bytes().replace(b'"action":"read"', b'"action":"list"'))
    lacking = tmp_path / "lacking"
    shutil.copytree(log, lacking)
    sorted(lacking.glob("*-000003.jsonl"))[0].unlink()

    for folder, expected in ((changed, EvidenceFault.CHANGED), (lacking, EvidenceFault.MISSING_FILE)):
        trusted = make_pack(folder, folder / "pack", session_question(folder))
        assert expected in kinds(verify_pack(folder / "pack", trusted).findings)


def test_bad_questions_write_nothing(log: Path, tmp_path: Path) -> None:
    """An unknown purpose, an empty span, a pack that is too long, a file that is there."""
    out, key = tmp_path / "out", AuditKey.load(log / layout.KEY_FILE)
    with pytest.raises(NotFound):
        question.of_purpose([log], "none", 0, END_MS, "signed")
    with pytest.raises(UsageError, match="--from, --to"):
        question.of_time(END_MS, END_MS, "signed")
    with pytest.raises(UsageError, match="--max-bytes"):
        write_pack(out, session_question(log), sources(log), key, END_MS, 20_000)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(UsageError, match="--out"):
        write_pack(out, session_question(log), sources(log), key, END_MS)
    assert out.read_text() == "mine"


def test_a_receipt_is_judged_with_the_log(pack: MadePack) -> None:
    """Another session's, one of another end, and bytes that are none prove nothing, however well signed."""
    key = AuditKey.load(pack.folder / layout.KEY_FILE)
    other = CLOSED.signed_by(SERVICE).text
    parts = PackParts.of(pack.data)
    for text in (other, other[:-1], "sessauth_receipt_", parts["receipts/000000.txt"].decode()[:-3] + "AA"):
        parts["receipts/000000.txt"] = text.encode() + b"\n"
        assert kinds(pack.judged(parts.signed(key).data()).findings) == {EvidenceFault.BAD_RECEIPT}


def test_keys_are_read_in_each_form(pack: MadePack, log: Path) -> None:
    """Files of audit key and keys jwks; anything else is refused by its file's name."""
    (key,) = pack.trusted.audit.values()
    document = json.dumps({"keys": [{"key_id": "", "public_key": key.hex()}]})
    jwks = json.dumps({"keys": [SERVICE.public_jwk()]})

    found = read_keys({"a": f"{key.hex()}\n", "b": jwks})
    assert (found.audit, found.issuer) == (pack.trusted.audit, pack.trusted.issuer)
    assert read_keys({"a": document}).audit == pack.trusted.audit
    for text in ("", "ab", "{}", '{"keys":[]}', "[" * 100_000, '{"keys":[{"kty":"RSA"}]}', "{" * 100_000):
        with pytest.raises(NoKeys, match="wrong"):
            read_keys({"wrong": text})
