"""``sessauth identity explain``: what a token proves and gives, offline, and why it gives nothing."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock
from tests.support.identity_tokens import SERVICE, bound_to, claims, key_proof, public_jwk, signed
from tests.support.service import running

from .conftest import Ran, Run, invoke

SETTINGS = """
[[identity_providers]]
name = "corp"
issuer = "https://idp.example/realms/one"
clients = ["desk"]
jwks_file = "corp.json"
labels = { tenant = "{tid}" }
facts = ["acr"]

[[identity_providers.grants]]
when = { groups = "support" }
ceiling = ["read:tickets/**"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a provider and its keys."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "sessauth.toml").write_text(SETTINGS)
    (folder / "corp.json").write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    return folder


def explained(run: Run, *options: str, **changed: Any) -> Ran:
    """Explain a token of a login a minute ago, from stdin."""
    now = int(time.time())
    times = {"iat": now - 60, "exp": now + 240, "auth_time": now - 60}
    token = signed(claims(**{**times, "tid": "t1", "acr": "2", **changed}))
    return run("identity", "explain", "-", *options, stdin=token + "\n")


def test_a_token_is_explained_as_lines_and_as_json(run: Run, home: Path) -> None:
    """All that it proves and gives, and nothing of the token itself."""
    shown = explained(run)
    document = explained(run, "--json").json

    assert shown.out.startswith("ACCEPTED\n")
    for line in ("subject       user:ann", "label tenant  t1", "fact acr      2", "  read:tickets/**"):
        assert line in shown.out.splitlines()
    assert (document["accepted"], document["kind"], document["session"]["grants"]) == (True, "ID token", [0])
    assert document["session"]["ceiling"] == ["read:tickets/**"]
    assert "eyJ" not in shown.out + json.dumps(document)


def test_a_token_that_gives_nothing_is_refused_with_its_word(run: Run, home: Path) -> None:
    """The identity is shown all the same, where a key of the provider signed the token."""
    expired, ungranted = explained(run, exp=1), explained(run, groups=[])

    assert (expired.code, expired.out.split(":")[0]) == (1, "REFUSED IDENTITY_EXPIRED")
    assert (ungranted.code, ungranted.out.split(":")[0]) == (1, "REFUSED IDENTITY_NOT_GRANTED")
    assert "proves" in ungranted.out and "proves" not in expired.out
    assert explained(run, "--json", exp=1).json["fault"] == "IDENTITY_EXPIRED"


def test_faults_of_the_settings_are_named(run: Run, home: Path) -> None:
    """No key file, and no provider."""
    (home / "corp.json").unlink()
    assert (explained(run).code, "jwks_file" in explained(run).err) == (5, True)
    (home / "sessauth.toml").write_text("")
    assert (explained(run).code, "no identity provider" in explained(run).err) == (2, True)


def test_a_session_is_opened_and_kept_by_the_token_in_a_file(tmp_path: Path) -> None:
    """Neither a subject nor a parent is stated; the token is never an argument, and never shown."""
    keys, file = tmp_path / "corp.json", tmp_path / "id.jwt"
    keys.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    now = int(time.time())
    token = signed(claims(iat=now, exp=now + 300, auth_time=now - 60))
    file.write_text(token + "\n")
    provider = {**tomllib.loads(SETTINGS)["identity_providers"][0], "jwks_file": str(keys), "labels": {}}
    opening = ("session", "open", "--ceiling", "read:tickets/1")
    with running(identity_providers=[provider]) as service:
        home = service.made.state_dir.parent
        opened = invoke("--home", home, *opening, "--identity-token", file, "--json").json
        from_stdin = invoke("--home", home, *opening, "--identity-token", "-", "--json", stdin=token).json
        kept = invoke("--home", home, "session", "keep-alive", opened["id"], "--identity-token", file)
        faults = [
            invoke("--home", home, *opening, *options)
            for options in (
                (),
                ("--identity-token", token),
                ("--identity-token", file, "--parent", opened["id"]),
                ("--identity-token", "-", "--ceiling-file", "-"),
                ("--identity-token", tmp_path / "none"),
                ("--subject", "user:ann"),
            )
        ]

    assert opened["subject"] == "user:ann"
    assert from_stdin["parent_id"] == opened["parent_id"] != ""
    assert (kept.code, kept.out.startswith("lease lapses")) == (0, True)
    said = (
        "--subject",
        "shows in ps",
        "--parent: ",
        "only one",
        "can't read",
        "IDENTITY_REQUIRED: --subject: ",
    )
    for fault, words in zip(faults, said, strict=True):
        assert words in fault.err
        assert token[-20:] not in fault.err
    assert [fault.code for fault in faults] == [2, 2, 2, 2, 2, 3]


def test_a_session_is_opened_and_kept_by_a_token_and_its_proof(tmp_path: Path) -> None:
    """The token alone opens nothing, and a proof counts once and for one command."""
    keys, token_file, proof_file = (tmp_path / name for name in ("corp.json", "at.jwt", "proof.jwt"))
    keys.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    stated = {**tomllib.loads(SETTINGS)["identity_providers"][0], "jwks_file": str(keys), "labels": {}}
    provider = {**stated, "proof_origin": SERVICE, "algorithms": ["RS256", "ES256"]}
    options: tuple[Any, ...] = ("--identity-token", token_file, "--identity-proof", proof_file)
    opening = ("session", "open", "--ceiling", "read:tickets/1")
    with running(identity_providers=[provider]) as service:
        home = service.made.state_dir.parent
        now = time.time()
        token = signed(claims(iat=now, exp=now + 300, auth_time=now - 60, cnf=bound_to("ES256")))
        token_file.write_text(token + "\n")
        proof_file.write_text(key_proof(token, iat=time.time()) + "\n")
        opened = invoke("--home", home, *opening, *options, "--json").json
        keeping = ("session", "keep-alive", opened["id"])
        faults = [
            invoke("--home", home, *command)
            for command in (
                (*opening, *options),
                (*opening, "--identity-token", token_file),
                (*keeping, *options),
                (*opening, "--identity-proof", proof_file, "--subject", "a"),
                (*opening, "--identity-token", token_file, "--identity-proof", token),
                (*keeping, "--identity-token", "-", "--identity-proof", "-"),
                (*opening, "--subject", "a", "--identity-token", "/dev/null"),
            )
        ]
        proof_file.write_text(key_proof(token, "KeepAlive", iat=time.time()) + "\n")
        kept = invoke("--home", home, *keeping, *options)

    assert opened["subject"] == "user:ann"
    assert (kept.code, kept.out.startswith("lease lapses")) == (0, True)
    said = (
        "IDENTITY_REPLAYED: --identity-proof: was used before",
        "IDENTITY_PROOF_REQUIRED: --identity-proof: is required",
        "--identity-proof: htu: must be",
        "--identity-proof: is that of a token",
        "--identity-proof: a token as an argument shows in ps",
        "--identity-token, --identity-proof: only one",
        "--identity-token: /dev/null is empty",
    )
    for fault, words in zip(faults, said, strict=True):
        assert words in fault.err
        assert token[-20:] not in fault.err
    assert [fault.code for fault in faults] == [3, 3, 3, 2, 2, 2, 2]


@contextmanager
def waiting_for_events(tmp_path: Path, clock: FixedClock) -> Iterator[Path]:
    """Run a server that waits a minute for events, and ends logins then; gives its home folder."""
    keys = tmp_path / "corp.json"
    keys.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    provider = tomllib.loads(SETTINGS)["identity_providers"][0]
    stated = {"jwks_file": str(keys), "labels": {}, "silence_ms": 60_000, "on_silence": "end"}
    with running(clock, identity_providers=[{**provider, **stated}]) as service:
        home = service.made.state_dir.parent
        (home / "sessauth.toml").write_text(SETTINGS.replace("corp.json", str(keys)))
        yield home


def test_the_state_of_providers_is_shown(tmp_path: Path) -> None:
    """Lines say the same as JSON."""
    file, clock = tmp_path / "id.jwt", FixedClock(time.time_ns() // 1_000_000)
    now = clock.now_ms() // 1000
    file.write_text(signed(claims(iat=now, exp=now + 300, auth_time=now - 60)))
    with waiting_for_events(tmp_path, clock) as home:
        before = invoke("--home", home, "identity", "status", "--json").json
        opening = ("session", "open", "--ceiling", "read:tickets/1", "--identity-token", file)
        assert invoke("--home", home, *opening).code == 0
        clock.advance(5_000)
        shown = invoke("--home", home, "identity", "status").out.splitlines()
        cut = invoke("--home", home, "identity", "cut", "corp", "--user", "bob")
        clock.advance(56_000)
        after = invoke("--home", home, "identity", "status", "--json").json
        silent = invoke("--home", home, "identity", "status").out

    (provider,) = before["providers"]
    assert (provider["name"], provider["logins"], provider["keys_age_ms"]) == ("corp", 0, None)
    assert "keys      5s old" in shown and "logins    1" in shown
    assert "events    none: the server began to write 5s ago" in shown
    assert cut.code == 0 and (before["cuts"], after["cuts"]) == (0, 1)
    (provider,) = after["providers"]
    stream = {"age_ms": 61_000, "proven": False, "silent": True, "gap": True}
    assert provider["stream"] == {**stream, "on_silence": "end", "on_gap": "log"}
    assert "SILENT (on_silence end): no token opens a session, a gap (on_gap log)" in silent


@pytest.mark.slow
def test_the_doctor_asks_the_server_for_silent_streams(tmp_path: Path) -> None:
    """A stream that is not silent yet is no finding."""
    clock = FixedClock(time.time_ns() // 1_000_000)
    with waiting_for_events(tmp_path, clock) as home:
        sound = invoke("--home", home, "doctor").out
        clock.advance(61_000)
        found = invoke("--home", home, "doctor").out

    assert "event_stream_silent: no security event of corp" in found
    assert "event_stream_silent" not in sound


def test_a_server_without_providers_has_nothing_to_show() -> None:
    """The table of cuts is there all the same."""
    with running() as service:
        shown = invoke("--home", service.made.state_dir.parent, "identity", "status")
    assert (shown.code, shown.out) == (0, "cuts  0 users and logins have stored moments\n")
