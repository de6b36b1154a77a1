"""Bound tokens on the command line: a holder's key, a token to it, a proof, a check."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from sessauth.crypto.keys import HolderPublicKey
from sessauth.tokens.prover import HolderKey

from .conftest import Run, Service

SCOPE = "read:files/** free *"
SESSION = "00" * 16


@pytest.fixture
def key(run: Run, tmp_path: Path) -> Path:
    """A holder's key file."""
    path = tmp_path / "holder.pem"
    ran = run("holder-key", "new", path)
    assert ran.code == 0, ran.err
    return path


def mint(run: Run, issuer_key: Path, out: Path, *more: object) -> Path:
    """Mint with a key file; gives the token's file."""
    ran = run(
        "token", "mint", SESSION, "--issuer-key", issuer_key, "--scope", SCOPE, "--audience", "gw",
        "--ttl", "15m", "--out", out, *more,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return out


def test_a_holder_key_is_made_and_shown(run: Run, tmp_path: Path) -> None:
    """The file is the owner's alone, only the public half is printed, and it is the key's."""
    path = tmp_path / "holder.pem"
    made, shown = run("holder-key", "new", path), run("holder-key", "show", path)
    again = run("holder-key", "new", path)
    document = run("holder-key", "show", path, "--json").json
    public = HolderKey.load(path).public

    assert (made.code, shown.code, again.code) == (0, 0, 5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert HolderPublicKey.parse(made.out) == public
    assert public.text in shown.out
    assert document == {
        "public": public.text,
        "next_key": public.next_key.hex(),
        "proof_key": public.proof_key.hex(),
        "file": str(path),
    }
    secrets = [line for line in path.read_text().splitlines() if not line.startswith("-")]
    assert len(secrets) == 2
    assert all(secret[20:] not in made.out + made.err + shown.out + str(document) for secret in secrets)


def test_a_token_is_minted_to_a_key_offline(run: Run, key: Path, issuer_key: Path, tmp_path: Path) -> None:
    """The text, a file with the text, and the key file name the same holder."""
    public = run("holder-key", "show", key, "--json").json["public"]
    (tmp_path / "public").write_text(public + "\n")
    holder = HolderKey.load(key).public

    for number, to in enumerate((public, f"@{tmp_path / 'public'}", f"@{key}")):
        token = mint(run, issuer_key, tmp_path / f"token-{number}", "--to", to)
        block = run("token", "inspect", token, "--json").json["blocks"][0]
        assert (block["ending"], block["next_key"], block["proof_key"]) == (
            "bound",
            holder.next_key.hex(),
            holder.proof_key.hex(),
        )


def test_only_the_key_narrows_a_bound_token(run: Run, key: Path, issuer_key: Path, tmp_path: Path) -> None:
    """The next holder gets it; without the key, with another's, and to a bearer token it is refused."""
    token = mint(run, issuer_key, tmp_path / "token", "--to", f"@{key}")
    other = tmp_path / "other.pem"
    run("holder-key", "new", other)

    narrowed = run("token", "attenuate", token, "--to", f"@{other}", "--key", key, "--json")
    refused = [
        run("token", "attenuate", token, "--to", f"@{other}"),
        run("token", "attenuate", token, "--to", f"@{other}", "--key", other),
        run("token", "attenuate", token, "--key", key),
    ]
    shown = run("token", "present", token)

    assert narrowed.code == 0
    assert narrowed.json["ending"] == "bound"
    assert [ran.code for ran in refused] == [2, 2, 2]
    assert "--may-seal" in refused[2].err
    assert shown.out.strip() == token.read_text().strip()


def test_may_seal_lets_the_holder_seal(run: Run, key: Path, issuer_key: Path, tmp_path: Path) -> None:
    """The holder makes a bearer token with the key if the issuer permitted it."""
    token = mint(run, issuer_key, tmp_path / "token", "--to", f"@{key}", "--may-seal")

    assert run("token", "attenuate", token, "--key", key, "--json").json["ending"] == "sealed"


def test_contradictions_name_the_option(run: Run, key: Path, issuer_key: Path) -> None:
    """--open beside --to, --may-seal without it, a bad paste, a key that others may read."""
    base = ("token", "mint", SESSION, "--issuer-key", issuer_key, "--scope", SCOPE, "--audience", "gw")
    ran = [
        run(*base, "--ttl", "1m", "--open", "--to", f"@{key}"),
        run(*base, "--ttl", "1m", "--may-seal"),
        run(*base, "--ttl", "1m", "--to", "sessauth_holder_AAAA.AAAAAA"),
        run(*base, "--ttl", "1m", "--to", "@missing"),
        run("check", "-", "read", "files/a", "--proof", "x", "--holder-key", key, stdin="x"),
    ]
    key.chmod(0o644)
    readable = run(*base, "--ttl", "1m", "--to", f"@{key}")

    assert [each.code for each in ran] == [2] * 5
    for each, named in zip(ran, ("--to", "--to", "--to", "--to", "--proof"), strict=True):
        assert named in each.err
    assert readable.code == 5


def test_a_proof_is_made_and_a_call_checked(service: Service, tmp_path: Path) -> None:
    """Mint to a key, prove one call, check it once; without a proof, or with the same again, it is denied."""
    key = tmp_path / "holder.pem"
    service("holder-key", "new", key)
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    token = tmp_path / "token"
    minted = service(
        "token", "mint", session, "--scope", SCOPE, "--audience", "gw", "--to", f"@{key}", "--out", token
    )
    assert minted.code == 0, minted.err
    call = ("read", "files/a", "--arguments", '{"n": 1}')
    judge = ("check", token, *call, "--audience", "gw")

    proof = service("token", "prove", token, *call, "--key", key)
    (tmp_path / "proof").write_text(proof.out)
    answers = [
        service(*judge, "--proof", proof.out.strip()),
        service(*judge, "--proof", f"@{tmp_path / 'proof'}"),
        service(*judge),
        service(*judge, "--holder-key", key),
    ]

    assert proof.code == 0, proof.err
    assert proof.out.startswith("sessauth_proof_")
    assert [ran.code for ran in answers] == [0, 1, 1, 0]
    assert "REPLAYED" in answers[1].out and "PROOF_REQUIRED" in answers[2].out


def test_a_proof_of_each_kind_counts_in_this_process_too(service: Service, tmp_path: Path) -> None:
    """The call is judged here with --state, by the host's keys and its table of used nonces."""
    key, token = tmp_path / "holder.pem", tmp_path / "token"
    service("holder-key", "new", key)
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    service("token", "mint", session, "--scope", SCOPE, "--audience", "gw", "--to", f"@{key}", "--out", token)
    for kind in ("mac", "ed25519"):
        made = service("token", "prove", token, "read", "files/a", "--key", key, "--kind", kind, "--json")
        here = service(
            "check", token, "read", "files/a", "--audience", "gw", "--proof", made.json["proof"],
            "--state", service.home / "state",
        )  # fmt: skip
        there = service("check", token, "read", "files/a", "--audience", "gw", "--proof", made.json["proof"])
        assert here.code == 0, here.out + here.err
        assert (there.code, "REPLAYED" in there.out) == (1, True)


def test_a_holder_pins_the_issuer_keys(service: Service, tmp_path: Path, issuer_key: Path) -> None:
    """A proof is made with the cluster's JWK set; with another issuer's key nothing is proven."""
    key, token, jwks = tmp_path / "holder.pem", tmp_path / "token", tmp_path / "jwks"
    service("holder-key", "new", key)
    jwks.write_text(json.dumps(service("keys", "jwks", "--json").json))
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    service("token", "mint", session, "--scope", SCOPE, "--audience", "gw", "--to", f"@{key}", "--out", token)
    prove = ("token", "prove", token, "read", "files/a", "--key", key, "--issuer-key")

    assert service(*prove, jwks).code == 0
    refused = service(*prove, issuer_key)
    assert (refused.code, refused.out) == (2, "")
    assert "none of those given" in refused.err


def test_a_damaged_proof_is_told_here(service: Service, tmp_path: Path) -> None:
    """A bad paste says truncated or damaged, which a check never does."""
    key, token = tmp_path / "holder.pem", tmp_path / "token"
    service("holder-key", "new", key)
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    service("token", "mint", session, "--scope", SCOPE, "--audience", "gw", "--to", f"@{key}", "--out", token)
    proof = service("token", "prove", token, "read", "files/a", "--key", key).out.strip()

    for bad, told in ((proof[:-9], "truncated"), (proof[:-1] + "%", "damaged"), ("x", "begins with")):
        ran = service("check", token, "read", "files/a", "--audience", "gw", "--proof", bad)
        assert (ran.code, told in ran.err) == (2, True), ran.err
