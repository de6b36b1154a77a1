"""Receipts on the command line: made with a server, and held against public keys and tokens without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sessauth.crypto.keys import IssuerKey
from sessauth.model.receipt import SignedReceipt
from sessauth.tokens.token import Issuer
from sessauth.verifier.receipt_check import CoverageKind, check_token_against
from tests.support.receipts import CLOSED, LATE, PARTIAL, SERVICE, STRANGER

from .conftest import COMMAND, Run, Service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Path:
    """The files of a session that ended: its tokens, one of another session, the receipt, the keys."""
    path = tmp_path_factory.mktemp("receipts")
    ids = {}
    for name in ("mine", "other"):
        opened = service("session", "open", "--subject", "agent", "--ceiling", "read:**", "--json")
        ids[name] = opened.json["id"]
        mint = ("token", "mint", ids[name], "--scope", "read:a/**", "--audience", "gw")
        assert service(*mint, "--out", path / f"{name}.token").code == 0
        assert service(*mint, "--open", "--out", path / f"{name}.open").code == 0
    (path / "keys.json").write_text(service("keys", "jwks").out)
    ended = service("session", "end", ids["mine"], "--reason", "done")
    assert ended.code == 0 and "receipt CLOSED: no verifier" in ended.out
    made = service("session", "receipt", ids["mine"], "--out", path / "receipt", "--json")
    assert (made.code, made.json["state"], made.json["signed"]) == (0, "CLOSED", text(path / "receipt"))
    (path / "ids").write_text("\n".join(ids.values()))
    return path


def text(path: Path) -> str:
    """Return what a file holds."""
    return path.read_text().strip()


def test_the_end_tells_its_receipt(service: Service) -> None:
    """JSON has the whole receipt; the session has ended whatever it says."""
    opened = service("session", "open", "--subject", "agent", "--ceiling", "read:**", "--json")
    ended = service("session", "end", opened.json["id"], "--json")

    assert ended.code == 0
    receipt = ended.json["receipt"]
    assert (receipt["state"], receipt["session_id"]) == ("CLOSED", opened.json["id"])
    assert [each["name"] for each in receipt["verifiers"]] == ["sessauth/control"]
    assert SignedReceipt.from_text(receipt["signed"]).issuer_key_id.hex() == receipt["issuer_key_id"]


def test_a_session_that_lives_has_none(service: Service) -> None:
    """The server refuses."""
    opened = service("session", "open", "--subject", "agent", "--ceiling", "read:**", "--json")
    refused = service("session", "receipt", opened.json["id"])

    assert refused.code == 3 and "WRONG_STATUS" in refused.err


def test_it_is_verified_by_another_process_with_nothing_but_keys(folder: Path, tmp_path: Path) -> None:
    """No server, no home folder, no credential."""
    command = [*COMMAND, "--home", str(tmp_path / "none"), "session", "verify-closed"]
    command += ["--receipt", str(folder / "receipt"), "--keys", str(folder / "keys.json")]
    command += ["--token-file", str(folder / "mine.token")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "VERIFIED" in ran.stdout and "REFUSED (SESSION_ENDED at revision" in ran.stdout


def closed(run: Run, folder: Path, *more: object) -> tuple[int, list[str]]:
    """Hold tokens against the receipt; return the exit code, and what it says of each."""
    ran = run(
        *("session", "verify-closed", "--json", "--receipt", folder / "receipt"),
        *("--keys", folder / "keys.json", *more),
    )
    return ran.code, [each["coverage"] for each in ran.json["tokens"]] if ran.out else [ran.err]


def test_each_token_is_held_against_it(run: Run, folder: Path, tmp_path: Path) -> None:
    """Tokens of its session are refused, open ones too; another's is not covered, a forged one not shown."""
    forged = tmp_path / "forged"
    mine, other = (bytes.fromhex(line) for line in text(folder / "ids").split())
    stranger = Issuer(IssuerKey(bytes(32))).mint(mine, ["read:a"], ["gw"], ttl_ms=60_000)
    forged.write_text(stranger.text)

    assert closed(run, folder) == (0, [])
    for names, code, expected in (
        ((folder / "mine.token", folder / "mine.open"), 0, ["REFUSED", "REFUSED"]),
        ((folder / "mine.token", folder / "other.token"), 1, ["REFUSED", "NOT_COVERED"]),
        ((forged,), 1, ["NOT_SHOWN"]),
    ):
        options = [part for name in names for part in ("--token-file", name)]
        assert closed(run, folder, *options) == (code, expected)
    assert closed(run, folder, "--session", mine.hex())[0] == 0
    code, [expected] = closed(run, folder, "--session", other.hex())
    assert code == 1 and "OTHER_SESSION" in expected


@pytest.mark.parametrize(
    ("signed", "code", "expected"),
    [
        (CLOSED.signed_by(SERVICE).text, 0, "receipt CLOSED"),
        (PARTIAL.signed_by(SERVICE).text, 1, "waits for gw-1"),
        (LATE.signed_by(SERVICE).text, 0, "A CALL WAS ALLOWED 5001 ms AFTER THE END"),
        (CLOSED.signed_by(STRANGER).text, 1, "none of those given"),
        (CLOSED.signed_by(SERVICE).text[:-1], 2, "truncated"),
        ("", 2, "not a receipt"),
    ],
)
def test_what_it_comes_to(run: Run, tmp_path: Path, signed: str, code: int, expected: str) -> None:
    """Closed, not closed, not proven, or no receipt at all."""
    import json

    (tmp_path / "receipt").write_text(signed)
    (tmp_path / "keys").write_text(json.dumps({"keys": [SERVICE.public_jwk()]}))
    ran = run("session", "verify-closed", "--receipt", tmp_path / "receipt", "--keys", tmp_path / "keys")

    assert ran.code == code and expected in ran.out + ran.err


def test_a_token_is_never_an_argument(run: Run, folder: Path) -> None:
    """And only one file can be stdin."""
    ran = run(
        *("session", "verify-closed", "--receipt", folder / "receipt", "--keys", folder / "keys.json"),
        *("--token-file", text(folder / "mine.token")),
    )
    assert ran.code == 2 and "as an argument" in ran.err and text(folder / "mine.token") not in ran.err
    ran = run("session", "verify-closed", "--receipt", "-", "--keys", "-")
    assert ran.code == 2 and "stdin" in ran.err


def test_what_refuses_it_is_the_kernels_word() -> None:
    """A lapse and an expiry are expected as such, any other end as an end."""
    from dataclasses import replace

    from sessauth.model.receipt import Receipt
    from sessauth.model.session import EndCause

    token = Issuer(SERVICE).mint(CLOSED.session_id, ["read:a"], ["gw"], ttl_ms=60_000)

    def reason(receipt: Receipt) -> str:
        held = check_token_against(receipt, token, [SERVICE.public_key])
        assert held.coverage is CoverageKind.REFUSED
        return held.reason.name

    assert {cause: reason(replace(CLOSED, cause=cause)) for cause in list(EndCause)[1:]} == {
        EndCause.ASKED: "SESSION_ENDED",
        EndCause.LEASE_LAPSED: "LEASE_LAPSED",
        EndCause.EXPIRED: "SESSION_EXPIRED",
        EndCause.PARENT_ENDED: "SESSION_ENDED",
        EndCause.RESTORED: "SESSION_ENDED",
    }
