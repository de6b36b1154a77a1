"""One log and its packs, for tests that change copies of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit.layout import AuditKey
from sessauth.evidence.reader.crypto import TrustedKeys
from sessauth.evidence.reader.verify import EvidenceReport, verify_pack
from tests.support.evidence_packs import make_pack, session_question, write_log


@dataclass(frozen=True)
class MadePack:
    """A pack, the keys to verify it by, and the folder of its log."""

    data: bytes
    trusted: TrustedKeys
    folder: Path
    scratch: Path

    def judged(self, data: bytes, trusted: TrustedKeys | None = None, **options: Any) -> EvidenceReport:
        """Verify other bytes in its place."""
        file = self.scratch / "judged.pack"
        file.write_bytes(data)
        return verify_pack(file, self.trusted if trusted is None else trusted, **options)


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit folder of a small log."""
    folder = tmp_path_factory.mktemp("evidence") / "audit"
    write_log(folder)
    return folder


def _made(log: Path, scratch: Path, show: str, key: AuditKey | None = None) -> MadePack:
    to = scratch / "made.pack"
    trusted = make_pack(log, to, session_question(log, show), key)
    return MadePack(to.read_bytes(), trusted, log, scratch)


@pytest.fixture(scope="session")
def pack(log: Path, tmp_path_factory: pytest.TempPathFactory) -> MadePack:
    """A pack of one session."""
    return _made(log, tmp_path_factory.mktemp("pack"), "signed")


@pytest.fixture(scope="session")
def collector() -> AuditKey:
    """A key that signs packs and no log."""
    return AuditKey.generate()


@pytest.fixture(scope="session")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory, collector: AuditKey) -> MadePack:
    """A pack that shows all lines, signed by a key that signs no log."""
    return _made(log, tmp_path_factory.mktemp("whole"), "all", collector)
