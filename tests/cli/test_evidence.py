"""``sessauth evidence``: a pack of a real server's sessions, verified by another process with keys alone."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.audit import layout
from tests.support.service import wait_until

from .conftest import COMMAND, Run, Service, start_service, stop_service

PURPOSE = '../ticket <b>"é‮'


@pytest.fixture(scope="module")
def served() -> Iterator[Service]:
    """A server of its own, whose audit signs often."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SESSAUTH_AUDIT_ENABLED", "true")
    patch.setenv("SESSAUTH_AUDIT_CHECKPOINT_MS", "100")
    patch.setenv("SESSAUTH_USAGE_ENABLED", "true")
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        running = start_service(Path(folder) / "home")
        patch.undo()
        yield running
        stop_service(running)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Service) -> Path:
    """Keys, and a session of each of two purposes: one ended, with a child; a call each, and a denied one."""
    path = tmp_path_factory.mktemp("evidence")
    ids = {}
    for name, purpose in (("mine", PURPOSE), ("other", "ticket 2")):
        opened = served(
            *("session", "open", "--subject", "agent", "--purpose", purpose),
            *("--ceiling", "read:**", "--json"),
        )
        ids[name] = opened.json["id"]
        token = path / f"{name}.token"
        minted = served(
            *("token", "mint", ids[name], "--scope", "read:a/**", "--audience", "gw", "--out", token)
        )
        assert minted.code == 0, minted.err
        call = ("check", token, "read", "a/b", "--audience", "gw", "--arguments", '{"secret":"hunter2"}')
        assert served(*call).code == 0
        assert served("check", token, "write", "a/b", "--audience", "gw").code == 1
    child = served(
        *("session", "open", "--subject", "child", "--parent", ids["mine"], "--ceiling", "read:a", "--json")
    )
    ids["child"] = child.json["id"]
    assert served("session", "end", ids["mine"]).code == 0
    (path / "ids.json").write_text(json.dumps(ids))
    (path / "audit.pub").write_text(served("audit", "key").out)
    (path / "keys.json").write_text(served("keys", "jwks").out)
    files = layout.files(served.home / "audit")

    def signed() -> bool:
        (file,) = (path for numbered in files.values() for path in numbered.values())
        return b'"end_session"' in file.read_bytes() and b'"checkpoint"' in file.read_bytes()[-700:]

    assert wait_until(signed)
    assert wait_until(lambda: served("session", "report", ids["mine"], "--json").json["usage"] is not None)
    return path


def test_it_is_verified_by_another_process_with_nothing_but_keys(
    served: Service, folder: Path, tmp_path: Path
) -> None:
    """No server, no home folder, no credential: and a changed one is not proven."""
    ids = json.loads((folder / "ids.json").read_text())
    pack = tmp_path / "a.pack"
    written = served("evidence", "--session", ids["mine"][:10], "--out", pack, "--json")
    assert written.code == 0, written.out + written.err
    assert pack.stat().st_mode & 0o777 == 0o600
    (tmp_path / "b.pack").write_bytes(pack.read_bytes().replace(b"OUT_OF_SCOPE", b"OUT_OF_SC0PE"))
    command = [*COMMAND, "--home", str(tmp_path / "none"), "evidence", "verify", "--json"]
    command += ["--key", str(folder / "audit.pub"), "--key", str(folder / "keys.json")]
    ran = [
        subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, check=False)
        for name in ("a.pack", "b.pack")
    ]

    assert [each.returncode for each in ran] == [0, 1], ran
    answer = json.loads(ran[0].stdout)
    sessions = {each["session"]: each for each in answer["sessions"]}
    assert (answer["proven"], set(sessions)) == (True, {ids["mine"], ids["child"]})
    mine = sessions[ids["mine"]]
    assert (mine["allowed"], mine["denied"], mine["receipt"]["state"]) == (1, 1, "CLOSED")
    assert sessions[ids["child"]]["receipt"]["state"] == "CLOSED"


def test_a_pack_has_no_secret_and_no_argument(served: Service, folder: Path, tmp_path: Path) -> None:
    """Neither tokens nor keys nor values of arguments; and no text of an agent as it is."""
    for number, options in enumerate(
        (["--purpose", PURPOSE], ["--from", "2020-01-01T00:00:00Z", "--show", "all"])
    ):
        pack = tmp_path / f"{number}.pack"
        ran = served("evidence", *options, "--out", pack)
        assert ran.code == 0 and "\u202e" not in ran.out, ran.out
        data = pack.read_bytes()
        for secret in (b"hunter2", b"PRIVATE KEY", b"sessauth_secret_", PURPOSE.encode()):
            assert secret not in data
        for file in folder.glob("*.token"):
            assert file.read_bytes().strip() not in data
        with tarfile.open(pack) as archive:
            names = archive.getnames()
        assert "reports/000000.json" in names and "receipts/000000.txt" in names
        assert (
            b'"scopes_never_used"' in data and b'"scope": "read:**"' in data and b'"suggestions"' not in data
        )
    values = tmp_path / "values.pack"
    assert served("evidence", "--purpose", PURPOSE, "--argument-values", "--out", values).code == 0
    assert b"hunter2" in values.read_bytes() and b'"suggestions"' in values.read_bytes()


def test_without_a_server_there_are_no_papers(
    served: Service, folder: Path, tmp_path: Path, run: Run
) -> None:
    """The log alone is enough for the log; the receipts are missing, and that is said."""
    ids = json.loads((folder / "ids.json").read_text())
    pack = tmp_path / "pack"
    ran = run(
        *("--home", served.home, "evidence", "--session", ids["mine"], "--no-server"),
        *("--show", "matching", "--out", pack),
    )

    assert ran.code == 0, ran.out + ran.err
    assert "2 of 2 sessions are closed: they have no receipt here" in ran.out
    assert "closed records is of the question, or opens a session of it: the signer's word" in ran.out
    compared = run("evidence", "verify", pack, "--key", folder / "audit.pub", "--log", served.home / "audit")
    assert compared.code == 0 and "closed records" not in compared.out


def test_a_key_of_an_auditor_signs_too(served: Service, folder: Path, tmp_path: Path, run: Run) -> None:
    """Folders that were collected without secret keys are signed by another one, which must be named."""
    key = tmp_path / "auditor.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True
    )
    key.chmod(0o600)
    pack = tmp_path / "pack"
    ran = served("evidence", "--purpose", "ticket 2", "--signing-key", key, "--out", pack, "--json")
    assert ran.code == 0, ran.out + ran.err
    (tmp_path / "auditor.pub").write_text(ran.json["signing_key"])

    keys = ("--key", folder / "audit.pub")
    assert run("evidence", "verify", pack, *keys).code == 1
    assert run("evidence", "verify", pack, *keys, "--signer", tmp_path / "auditor.pub").code == 0
    assert run("evidence", "verify", pack, "--signer", tmp_path / "auditor.pub").code == 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--out", "x"], 2, "which sessions"),
        (["--session", "00" * 16], 2, "--out"),
        (["--session", "00" * 16, "--purpose", "p", "--out", "x"], 2, "which sessions"),
        (["--purpose", "none", "--out", "x"], 3, "no session of that purpose"),
        (["--purpose", "ticket 2", "--signing-key", "none.pem", "--out", "x"], 2, "--signing-key"),
        (["--purpose", "ticket 2", "--out", "."], 2, "--out"),
        (["--purpose", "ticket 2", "--max-bytes", "5000", "--out", "x"], 2, "--max-bytes"),
        (["--from", "2090-01-01T00:00:00Z", "--out", "x"], 2, "--from, --to"),
        (["verify", "x"], 2, "can't read x"),
        (["verify", "x", "--key", "x"], 2, "--key"),
    ],
)
def test_bad_input_says_what_and_writes_nothing(
    served: Service, folder: Path, tmp_path: Path, options: list[str], code: int, words: str, run: Run
) -> None:
    """Each refusal names what to change, and leaves no file."""
    ran = run("--home", served.home, "evidence", *options)

    assert ran.code == code and words in ran.err, ran.out + ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_pack_is_said_in_one_line(tmp_path: Path, run: Run) -> None:
    """A fault of the whole file names no member."""
    path = tmp_path / "empty.pack"
    path.write_bytes(b"")
    ran = run("evidence", "verify", str(path))

    assert (ran.code, ran.out.startswith("DAMAGED: the ")) == (1, True), ran.out
