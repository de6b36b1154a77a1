"""Holder keys: their files, their secrets that don't leak, and what they refuse to prove."""

from __future__ import annotations

import copy
import pickle
import stat
from pathlib import Path

import pytest

from sessauth._fast import _check as kernel
from sessauth.clock import FixedClock
from sessauth.crypto.keys import HolderPublicKey, IssuerKey, VerifierKey
from sessauth.errors import KeyFolderError, UsageError
from sessauth.tokens.prover import HolderKey
from tests.support.memory_fixture import NOW_MS, MemoryFixture

READ = "read:files/**"
SECRET = bytes(range(100, 132))
HOST = VerifierKey(b"v" * 16, kernel.x25519_public(SECRET), NOW_MS - 1, NOW_MS + 3_600_000, b"c" * 16)


@pytest.fixture
def holder() -> HolderKey:
    """A key to bind tokens to."""
    return HolderKey(bytes(range(64, 96)), bytes(range(32, 64)))


def test_a_saved_key_reads_back(tmp_path: Path, holder: HolderKey) -> None:
    """The file is of its owner alone, holds both keys, and gives the same public half."""
    path = tmp_path / "holder.pem"
    holder.save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().count("BEGIN PRIVATE KEY") == 2
    assert HolderKey.load(path).public == holder.public
    with pytest.raises(KeyFolderError, match="never overwritten"):
        holder.save(path)


def test_files_that_hold_no_holder_key_are_refused(tmp_path: Path, holder: HolderKey) -> None:
    """An issuer's file, two of one kind, the two in the wrong order, and one that others may read."""
    holder.save(tmp_path / "good")
    first, second = (tmp_path / "good").read_text().split("-----END PRIVATE KEY-----\n")[:2]
    end = "-----END PRIVATE KEY-----\n"
    IssuerKey.generate().save(tmp_path / "issuer")
    for name, text in {
        "twice": (first + end) * 2,
        "swapped": second + end + first + end,
        "cut": first,
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "good").chmod(0o640)

    for name in ("issuer", "twice", "swapped", "cut", "good", "missing"):
        with pytest.raises(KeyFolderError) as caught:
            HolderKey.load(tmp_path / name)
        assert first.splitlines()[1] not in str(caught.value)


def test_an_issuer_key_is_not_read_from_a_holders_file(tmp_path: Path, holder: HolderKey) -> None:
    """One kind of key file is never taken for the other."""
    holder.save(tmp_path / "holder")

    with pytest.raises(KeyFolderError, match="must hold one"):
        IssuerKey.load(tmp_path / "holder")


def test_two_generated_keys_have_nothing_in_common() -> None:
    """All four public keys of two holders differ."""
    a, b = HolderKey.generate().public, HolderKey.generate().public

    assert len({a.next_key, a.proof_key, b.next_key, b.proof_key}) == 4


@pytest.mark.parametrize(
    "secrets", [(b"", bytes(32)), (bytes(32), bytes(31)), (bytes(32), bytearray(32)), (bytes(32), bytes(32))]
)
def test_a_holder_key_is_two_secrets_of_32_bytes(secrets: tuple[bytes, bytes]) -> None:
    """Other lengths and types, and one secret used twice, are refused."""
    with pytest.raises(UsageError):
        HolderKey(*secrets)


def test_a_secret_shows_in_no_repr_and_no_pickle(holder: HolderKey) -> None:
    """Repr names the public key alone; pickling and copying are refused."""
    assert repr(holder) == f"<HolderKey {holder.public.next_key.hex()}>"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(holder)


def test_the_kind_follows_the_token(memory: MemoryFixture, holder: HolderKey) -> None:
    """A MAC where the token names this holder's proof_key, else a signature; a MAC is refused there."""
    other = HolderPublicKey(holder.public.next_key)
    with_key, without = (memory.mint(READ, ending="", to=to) for to in (holder.public, other))

    kinds = [
        kernel.decode_message("Proof", holder.prove(token, "read", "files/a", b"", HOST))["kind"]
        for token in (with_key, without)
    ]

    assert kinds == [2, 1]
    with pytest.raises(UsageError, match="proof_key"):
        holder.prove(without, "read", "files/a", b"", HOST, kind="mac")
    with pytest.raises(UsageError, match="kind"):
        holder.prove(with_key, "read", "files/a", b"", HOST, kind="hmac")


def test_each_proof_has_a_nonce_of_its_own(memory: MemoryFixture, holder: HolderKey) -> None:
    """Two proofs for the same call at the same time differ; text and bytes of the token serve as well."""
    token = memory.mint(READ, ending="", to=holder.public)
    proofs = {
        holder.prove(form, "read", "files/a", b"{}", HOST, clock=FixedClock(NOW_MS))
        for form in (token, token.text, token.data, token)
    }

    assert len(proofs) == 4


def test_a_second_proof_agrees_on_no_key(
    memory: MemoryFixture, holder: HolderKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One agreement for each key of a host, however many proofs are made for it."""
    agreed = []
    agree = kernel.mac_key_of_holder

    def counted(*args: bytes) -> bytes:
        agreed.append(args[1])
        return agree(*args)

    monkeypatch.setattr("sessauth.tokens.prover.kernel.mac_key_of_holder", counted)
    token = memory.mint(READ, ending="", to=holder.public)
    other = VerifierKey(HOST.verifier_id, kernel.x25519_public(bytes(32)), 0, NOW_MS * 2, HOST.cluster_id)

    for host in (HOST, HOST, other, HOST, other):
        holder.prove(token, "read", "files/a", b"", host)

    assert agreed == [HOST.public_key, other.public_key]


def test_only_what_is_bound_to_the_key_is_proven(memory: MemoryFixture, holder: HolderKey) -> None:
    """A sealed token, another's and a time beyond the format are refused, and what is at fault is named."""
    other = memory.mint(READ, ending="", to=HolderKey.generate().public)
    mine = memory.mint(READ, ending="", to=holder.public)

    assert holder.holds(mine) and not holder.holds(other) and not holder.holds(memory.mint(READ))
    with pytest.raises(UsageError, match="not bound"):
        holder.prove(memory.mint(READ), "read", "files/a", b"", HOST)
    with pytest.raises(UsageError, match="another holder"):
        holder.prove(other, "read", "files/a", b"", HOST)
    with pytest.raises(UsageError, match="now_ms"):
        holder.prove(mine, "read", "files/a", b"", HOST, now_ms=2**53)


def test_nothing_is_agreed_on_with_a_host_key_of_small_order(
    memory: MemoryFixture, holder: HolderKey
) -> None:
    """A host that gives such a key gets no MAC, which anybody could make."""
    token = memory.mint(READ, ending="", to=holder.public)
    host = VerifierKey(HOST.verifier_id, bytes(32), 0, NOW_MS * 2, HOST.cluster_id)

    with pytest.raises(UsageError, match="verifier_key"):
        holder.prove(token, "read", "files/a", b"", host)
