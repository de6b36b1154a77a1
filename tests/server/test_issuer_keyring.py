from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.crypto.keys import IssuerKey, KeyRecord, KeyStatus
from sessauth.errors import KeyFolderError
from sessauth.server.keys.issuer_keyring import KeyRing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key folder."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


def _record(key: IssuerKey, status: KeyStatus, activated_at_ms: int, owner: str = "") -> KeyRecord:
    return KeyRecord(key.key_id, key.public_key, status, owner=owner, activated_at_ms=activated_at_ms)


def test_the_newest_active_key_that_is_here_is_used(folder: Path) -> None:
    """Retired, foreign and absent keys are passed over; an allow list limits the choice."""
    ring = KeyRing(folder)
    old, new, retired, foreign = (ring.make(name) for name in ("old", "new", "retired", "foreign"))
    absent = IssuerKey.generate()
    records = [
        _record(old, KeyStatus.ACTIVE, 1),
        _record(new, KeyStatus.ACTIVE, 2),
        _record(retired, KeyStatus.RETIRED, 3),
        _record(foreign, KeyStatus.ACTIVE, 4, owner="somebody"),
        _record(absent, KeyStatus.ACTIVE, 5),
    ]

    found = ring.newest_active(records)
    limited = ring.newest_active(records, [old.key_id])

    assert found is not None and found.key_id == new.key_id
    assert limited is not None and limited.key_id == old.key_id
    assert ring.newest_active(records, [absent.key_id]) is None
    assert ring.newest_active([]) is None


def test_one_request_id_makes_one_key(folder: Path) -> None:
    """A repeated request gives the same key, also from another process; another id another key."""
    first = KeyRing(folder).make("r-1")

    assert KeyRing(folder).make("r-1").key_id == first.key_id
    assert KeyRing(folder).make("r-2").key_id != first.key_id


def test_a_folder_or_file_open_to_others_is_refused(folder: Path) -> None:
    """The folder must be 0700 and each file 0600; the message says what to run."""
    key = KeyRing(folder).make("r-1")
    file = folder / f"{key.key_id.hex()}.pem"
    file.chmod(0o640)
    with pytest.raises(KeyFolderError, match="chmod 600"):
        KeyRing(folder).find(key.key_id)

    folder.chmod(0o750)
    with pytest.raises(KeyFolderError, match="chmod 700"):
        KeyRing(folder)
    with pytest.raises(KeyFolderError, match="sessauth init"):
        KeyRing(folder / "missing")


def test_a_file_with_another_key_signs_nothing(folder: Path) -> None:
    """A key file under another key's name is refused, not used."""
    ring = KeyRing(folder)
    key, other = ring.make("r-1"), IssuerKey.generate()
    (folder / f"{key.key_id.hex()}.pem").rename(folder / f"{other.key_id.hex()}.pem")

    with pytest.raises(KeyFolderError, match="another key"):
        KeyRing(folder).find(other.key_id)
