"""No changed pack is proven: 10,000 changes by people with ever more in their hands."""

from __future__ import annotations

import os
from random import Random

import pytest

from sessauth.audit.layout import AuditKey
from sessauth.evidence.reader.crypto import TrustedKeys
from sessauth.evidence.reader.findings import EvidenceFault
from tests.support import pack_mutations
from tests.support.evidence_packs import PackParts

from .conftest import MadePack

# make test-long has all 10,000.
CASES = int(os.environ.get("SESSAUTH_PACK_CASES", "400"))


@pytest.mark.parametrize("attacker", ["anybody", "members", "careful", "stranger"])
def test_no_changed_pack_is_proven(pack: MadePack, attacker: str) -> None:
    """A change without the keys is found, in words, and nothing goes wrong on the way."""
    parts, random = PackParts.of(pack.data), Random(attacker)
    for number in range(CASES // 5):
        if attacker == "anybody":
            changed = pack_mutations.anybody(pack.data, random)
        else:
            of = {"members": pack_mutations.of_members}.get(attacker) or getattr(pack_mutations, attacker)
            changed = of(parts, random).data()
        if changed != pack.data:
            report = pack.judged(changed)
            assert not report.proven, f"{attacker} {number}"
            assert report.findings and all(finding.words for finding in report.findings)


def test_who_signs_packs_alone_changes_no_log(whole: MadePack, collector: AuditKey) -> None:
    """The log's own signatures find what the pack's signer changed, if the pack shows all lines.

    The end of the stream that names the others is known from elsewhere: nothing else shows a cut there.
    """
    parts, random = PackParts.of(whole.data), Random("signer")
    heads = [bytes.fromhex(parts[name][-67:-3].decode()) for name in parts.logs()]
    assert whole.judged(parts.signed(collector).data(), heads=heads).proven
    for number in range(CASES // 5):
        changed = pack_mutations.signer(parts, random, collector)
        if changed.members != parts.members:
            assert not whole.judged(changed.data(), heads=heads).proven, f"signer {number}"


def test_the_key_of_packs_signs_no_log(whole: MadePack, collector: AuditKey) -> None:
    """A signer who names the own key as one of the log, and signs the log anew with it, is found."""
    data = pack_mutations.resigned_log(PackParts.of(whole.data), collector).signed(collector).data()
    trusted = whole.trusted
    found = [
        {
            finding.kind
            for finding in whole.judged(data, TrustedKeys(audit, trusted.issuer, trusted.signers)).findings
        }
        for audit in (trusted.audit, {**trusted.audit, **trusted.signers})
    ]

    assert [EvidenceFault.BAD_CHECKPOINT in kinds for kinds in found] == [True, False]


def test_the_pack_itself_is_proven(pack: MadePack, whole: MadePack) -> None:
    """Nothing is found where nothing was changed."""
    assert pack.judged(pack.data).findings == []
    assert whole.judged(whole.data).findings == []
    assert PackParts.of(pack.data).data() == pack.data
