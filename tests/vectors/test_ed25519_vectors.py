"""Ed25519 against vectors that nobody in this project wrote, read where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from tests.oracle.crypto import verify as oracle_verify

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SESSAUTH_SHARED_DATA") or ROOT.parent / "shared" / "data")


def _load(*parts: str) -> Any:
    path = DATA.joinpath(*parts)
    if not path.is_file():
        pytest.skip(
            f"{'/'.join(parts)} is not there: set SESSAUTH_SHARED_DATA to the folder with the vectors"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """The kernel's answer, which PyNaCl's plain verify must share."""
    found = kernel.verify(public_key, message, signature)
    assert found == oracle_verify(public_key, message, signature)
    return found


def test_rfc8032_signs_and_verifies() -> None:
    """All 5 vectors of RFC 8032: derived key, signature, verification; one bit more is wrong."""
    vectors = _load("rfc8032", "ed25519.json")["vectors"]

    assert len(vectors) == 5
    for vector in vectors:
        seed, public, message, signature = (
            bytes.fromhex(vector[name]) for name in ("seed", "public", "message", "signature")
        )
        assert kernel.public_key(seed) == public
        assert kernel.sign(seed, message) == signature
        assert _verify(public, message, signature)
        assert not _verify(public, message + b"\x00", signature)


def test_wycheproof_cases_are_all_right() -> None:
    """All 151 Wycheproof cases come out as they say."""
    groups = _load("wycheproof", "ed25519_test.json")["testGroups"]
    cases = [(bytes.fromhex(group["publicKey"]["pk"]), test) for group in groups for test in group["tests"]]
    wrong = [
        test["tcId"]
        for public, test in cases
        if _verify(public, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        != (test["result"] == "valid")
    ]

    assert len(cases) == 151
    assert wrong == []


def test_cctv_accepts_exactly_43() -> None:
    """Exactly 43 of 914 edge cases are accepted: those with nothing but a low-order component."""
    vectors = _load("cctv-ed25519", "ed25519vectors.json")
    accepted = [
        vector
        for vector in vectors
        if _verify(bytes.fromhex(vector["key"]), vector["msg"].encode(), bytes.fromhex(vector["sig"]))
    ]

    assert len(vectors) == 914
    assert len(accepted) == 43
    for vector in accepted:
        assert set(vector["flags"] or ()) <= {"low_order_component_A", "low_order_component_R"}


def test_speccheck_reads_as_written() -> None:
    """Only the fourth of the 12 cases of speccheck is accepted."""
    cases = _load("ed25519-speccheck", "cases.json")
    row = [
        "V" if _verify(*(bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature"))) else "X"
        for case in cases
    ]

    assert " ".join(row) == "X X X V X X X X X X X X"


@pytest.mark.parametrize("sign_bit", [0, 1])
def test_keys_of_small_order_are_not_acceptable(sign_bit: int) -> None:
    """None of the encodings of a point of small order may be a key, nor may one that is not canonical."""
    p = 2**255 - 19
    y8 = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    for y in (0, 1, p - 1, p, p + 1, p + 2, 2**255 - 1, y8, p - y8):
        assert not kernel.acceptable_key((y | sign_bit << 255).to_bytes(32, "little"))


def test_an_honest_key_is_acceptable() -> None:
    """A derived key is acceptable; one of another length is not."""
    public = kernel.public_key(bytes(range(32)))

    assert kernel.acceptable_key(public)
    assert not kernel.acceptable_key(public[:31])
    assert not kernel.acceptable_key(public + b"\x00")
