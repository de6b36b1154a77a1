"""Issuer keys: files, modes, public forms, and that a secret does not leak."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import stat
from pathlib import Path

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.keys import IssuerKey, key_id, public_jwk
from sessauth.errors import KeyFolderError, UsageError

# RFC 8410, 10.3: a private key in PEM and its public key.
RFC8410_PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RFC8410_PUBLIC = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"

# RFC 8037, appendix A: a seed, its public key and thumbprint.
RFC8037_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a key file with a mode."""
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_of_another_tool_is_read(tmp_path: Path) -> None:
    """The example of RFC 8410 gives the public key that the RFC says."""
    assert IssuerKey.load(write(tmp_path / "k.pem", RFC8410_PEM)).public_key.hex() == RFC8410_PUBLIC


def test_a_saved_key_is_the_file_that_other_tools_write(tmp_path: Path) -> None:
    """Saving what was loaded gives the same bytes, mode 0600 whatever the umask."""
    loaded = IssuerKey.load(write(tmp_path / "k.pem", RFC8410_PEM))
    before = os.umask(0o277)
    try:
        loaded.save(tmp_path / "again.pem")
    finally:
        os.umask(before)

    assert (tmp_path / "again.pem").read_text() == RFC8410_PEM
    assert stat.S_IMODE((tmp_path / "again.pem").stat().st_mode) == 0o600


def test_a_generated_key_survives_its_file(tmp_path: Path) -> None:
    """A saved and loaded key signs like the first; two generated keys differ."""
    key = IssuerKey.generate()
    key.save(tmp_path / "k.pem")
    loaded = IssuerKey.load(tmp_path / "k.pem")

    assert loaded.public_key == key.public_key
    assert kernel.verify(key.public_key, b"message", loaded.sign(b"message"))
    assert IssuerKey.generate().key_id != key.key_id


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """Saving where a file, or a dangling link, stands is refused and leaves it."""
    path = write(tmp_path / "k.pem", "precious")
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")

    for taken in (path, tmp_path / "link.pem"):
        with pytest.raises(KeyFolderError, match="never overwritten"):
            IssuerKey.generate().save(taken)
    assert path.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o620, 0o601, 0o602])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others refuses the key, and the message says how to mend it."""
    path = write(tmp_path / "k.pem", RFC8410_PEM, mode)

    with pytest.raises(KeyFolderError, match=f"{mode:04o}.*chmod 600"):
        IssuerKey.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a key",
        RFC8410_PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        RFC8410_PEM.replace("MC4C", "MC5C"),
        RFC8410_PEM.replace("dVhC", ""),
        RFC8410_PEM.replace("dVhC", "****"),
        RFC8410_PEM * 2,
        "x" * 5000,
    ],
)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    """Anything but one unencrypted Ed25519 key is refused by name, without showing its content."""
    path = write(tmp_path / "k.pem", text)

    with pytest.raises(KeyFolderError) as caught:
        IssuerKey.load(path)

    assert str(path) in str(caught.value)
    assert "1NRuctv5" not in str(caught.value) and "E1hK1bbY8" not in str(caught.value)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe without a writer are refused, without waiting."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFolderError):
            IssuerKey.load(path)


def test_saving_into_a_missing_folder_says_why(tmp_path: Path) -> None:
    """The operating system's reason is in the message."""
    with pytest.raises(KeyFolderError, match="No such file"):
        IssuerKey.generate().save(tmp_path / "nowhere" / "k.pem")


def test_the_public_jwk_is_that_of_the_rfc() -> None:
    """The example of RFC 8037 gives its public key and its thumbprint as kid, beside the id in tokens."""
    key = IssuerKey(bytes.fromhex(RFC8037_SEED))
    jwk = key.public_jwk()

    assert jwk["x"] == RFC8037_X
    assert (jwk["kid"], jwk["issuer_key_id"]) == (RFC8037_KID, key.key_id.hex())
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("OKP", "Ed25519", "Ed25519", "sig")
    assert "d" not in jwk


def test_the_key_id_is_the_digest_of_the_public_key() -> None:
    """BLAKE2b-256 of the 32 bytes, as hashlib computes it."""
    key = IssuerKey.generate()

    assert key.key_id == hashlib.blake2b(key.public_key, digest_size=32).digest() == key_id(key.public_key)
    assert public_jwk(key.public_key) == key.public_jwk()


@pytest.mark.parametrize("public_key", [b"", b"\x01" + bytes(31), bytes(32), b"\xff" * 32, bytes(33)])
def test_no_id_is_given_to_an_unacceptable_key(public_key: bytes) -> None:
    """Wrong length, small order and non-canonical encodings are refused."""
    with pytest.raises(UsageError):
        key_id(public_key)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytearray(32)])
def test_a_seed_is_32_bytes(seed: bytes) -> None:
    """Another length or type is refused."""
    with pytest.raises(UsageError):
        IssuerKey(seed)


def test_a_secret_shows_in_no_repr_and_no_pickle() -> None:
    """Repr names the key id alone; pickling and copying are refused."""
    seed = bytes(range(32))
    key = IssuerKey(seed)

    assert repr(key) == f"<IssuerKey {key.key_id.hex()}>"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)
