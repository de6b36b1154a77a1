from __future__ import annotations

import errno
import os
import string
import threading
import time
from pathlib import Path

import pytest

from sessauth.errors import ConfigError, StateUnusable
from sessauth.server.keys.credentials import RELOAD_SECONDS, CredentialFile, Principal, parse


@pytest.fixture
def file(tmp_path: Path) -> CredentialFile:
    """An empty credential file."""
    return CredentialFile(tmp_path / "credentials.toml")


def test_a_credential_is_its_owners(file: CredentialFile) -> None:
    """The text that add returns authenticates as that name, role and audiences, and nothing else does."""
    text = file.add("gateway-1", "gateway", ["gw", "other audience"])

    assert file.authenticate(text) == Principal("gateway-1", "gateway", ("gw", "other audience"))
    for wrong in [
        text[:-1],
        text + "A",
        text.replace("gateway-1", "gateway-2"),
        "",
        "sessauth_key__",
        text[1:],
        *(
            before + text + behind
            for before in ("", " ", "\t")
            for behind in ("", " ", "\n")
            if before + behind
        ),
    ]:
        assert file.authenticate(wrong) is None
    flipped = text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1]
    assert file.authenticate(flipped) is None


def test_a_credential_has_one_text(file: CredentialFile) -> None:
    """The two bits of the last character that no secret needs open nothing when they are set."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    text = file.add("issuer", "issuer")
    last = alphabet.index(text[-1])

    assert last % 4 == 0
    assert file.authenticate(text) is not None
    for bits in (1, 2, 3):
        assert parse(text[:-1] + alphabet[last + bits]) is None


def test_each_credential_has_one_place_in_the_cache(file: CredentialFile) -> None:
    """One caller has one entry in the cache in whatever forms it comes, and the next one gets its own."""
    first, second = file.add("a", "gateway"), file.add("b", "gateway")

    for text in [first, *(" " * count + first for count in range(5000)), second]:
        file.authenticate(text)

    assert len(file.loaded.accepted) == 2
    assert file.accepted_before(second.encode()) == Principal("b", "gateway")


def _fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every new file fail as on a full disk."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sessauth.server.keys.credentials.replace_file", refuse)


@pytest.mark.parametrize("gone", [("a",), ("b",), ("c",), ("a", "c"), ("a", "b", "c")])
def test_a_full_disk_keeps_no_credential(
    file: CredentialFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...]
) -> None:
    """Removing needs no room: the entry is overwritten, readers see that, and the other entries stay."""
    texts = {
        "a": file.add("a", "operator"),
        "b": file.add("b", "gateway", ["x", "y"]),
        "c": file.add("c", "auditor"),
    }
    other = CredentialFile(tmp_path / "credentials.toml")
    assert all(other.authenticate(text) for text in texts.values())
    size = (tmp_path / "credentials.toml").stat().st_size
    _fill(monkeypatch)

    assert all(file.remove(name) for name in gone)

    other.fresh_until = 0.0
    accepted = {name for name, text in texts.items() if other.authenticate(text)}
    assert accepted == {entry.name for entry in file.list()} == set(texts) - set(gone)
    assert (tmp_path / "credentials.toml").stat().st_size == size


def test_a_full_disk_takes_no_new_credential(file: CredentialFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding on a full disk is the state's fault, NO_SPACE, and changes nothing."""
    text = file.add("a", "operator")
    _fill(monkeypatch)

    with pytest.raises(StateUnusable, match="free some space") as refused:
        file.add("b", "operator")

    assert refused.value.problem == "NO_SPACE"
    assert file.authenticate(text) is not None


def test_a_file_of_another_form_is_not_overwritten(
    file: CredentialFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry written by hand, which is not found in its place, is left alone and the disk is named."""
    file.add("a", "operator")
    path = tmp_path / "credentials.toml"
    path.write_text(path.read_text().replace('[credential."a"]', "[credential.a]"))
    before = path.read_bytes()
    _fill(monkeypatch)

    with pytest.raises(StateUnusable):
        file.remove("a")

    assert path.read_bytes() == before


def test_the_file_holds_no_secret(file: CredentialFile, tmp_path: Path) -> None:
    """Only the hash is stored, readable by the group for the workers, by nobody else."""
    text = file.add("issuer", "issuer")
    stored = (tmp_path / "credentials.toml").read_text()
    found = parse(text)

    assert found is not None
    assert text[-43:] not in stored
    assert found[1].hex() not in stored
    assert (tmp_path / "credentials.toml").stat().st_mode & 0o777 == 0o640


def test_a_removed_credential_is_refused(file: CredentialFile) -> None:
    """Removing takes effect at once in this process; removing again says False."""
    text = file.add("issuer", "issuer")

    assert file.remove("issuer")
    assert file.authenticate(text) is None
    assert not file.remove("issuer")
    assert file.list() == []


def test_a_remembered_credential_is_forgotten_with_its_entry(file: CredentialFile, tmp_path: Path) -> None:
    """A credential that was used before its removal by another process is refused within the reload time."""
    text = file.add("issuer", "issuer")
    assert all(file.authenticate(text) is not None for _ in range(3))
    waiting = threading.Event()

    CredentialFile(tmp_path / "credentials.toml").remove("issuer")
    renewed = CredentialFile(tmp_path / "credentials.toml").add("issuer", "auditor")
    while file.authenticate(text) is not None:
        assert not waiting.wait(0.05)

    assert file.authenticate(renewed) == Principal("issuer", "auditor")
    assert file.authenticate(text) is None


def test_another_process_sees_the_change(file: CredentialFile, tmp_path: Path) -> None:
    """A second reader of the file learns of a new credential within its reload time."""
    other = CredentialFile(tmp_path / "credentials.toml")
    assert other.authenticate("sessauth_key_x_" + "A" * 43) is None
    text = file.add("issuer", "issuer")
    done = threading.Event()

    while other.authenticate(text) is None:
        assert not done.wait(0.05)

    assert other.authenticate(text) == Principal("issuer", "issuer")


def test_concurrent_adds_lose_nothing(file: CredentialFile, tmp_path: Path) -> None:
    """Adds at the same time are serialised by the file's lock."""
    threads = [
        threading.Thread(target=CredentialFile(tmp_path / "credentials.toml").add, args=(f"n{i}", "auditor"))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [entry.name for entry in file.list()] == [f"n{i}" for i in range(8)]


@pytest.mark.parametrize(
    ("name", "role", "audiences"),
    [
        ("", "operator", ()),
        ("a b", "operator", ()),
        ("a_b", "operator", ()),
        ('a"]', "operator", ()),
        ("x" * 65, "operator", ()),
        ("ok", "root", ()),
        ("ok", "gateway", ('a"b',)),
        ("ok", "gateway", ("a\nb",)),
    ],
)
def test_what_could_not_be_stored_is_refused(
    file: CredentialFile, name: str, role: str, audiences: tuple[str, ...]
) -> None:
    """Names, roles and audiences of another form are refused before anything is written."""
    with pytest.raises(ConfigError):
        file.add(name, role, audiences)

    assert file.list() == []


def test_a_name_is_taken_once(file: CredentialFile) -> None:
    """Adding a name again is refused; the first credential stays right."""
    text = file.add("issuer", "issuer")

    with pytest.raises(ConfigError, match="exists"):
        file.add("issuer", "operator")
    assert file.authenticate(text) == Principal("issuer", "issuer")


def test_an_unreadable_file_accepts_nobody(file: CredentialFile, tmp_path: Path) -> None:
    """A damaged file is an error, never an empty list of credentials or an old one for ever."""
    text = file.add("issuer", "issuer")
    (tmp_path / "credentials.toml").write_text('[credential."issuer"]\nrole = "issuer"\n')
    fresh = CredentialFile(tmp_path / "credentials.toml")

    with pytest.raises(ConfigError):
        fresh.authenticate(text)


def test_an_unreadable_file_forgets_whom_it_accepted(file: CredentialFile, tmp_path: Path) -> None:
    """While the file can't be read every call is refused, those of names that were right before too."""
    text = file.add("issuer", "issuer")
    assert file.authenticate(text) is not None
    whole = (tmp_path / "credentials.toml").read_text()
    (tmp_path / "credentials.toml").write_text("[credential")
    time.sleep(2 * RELOAD_SECONDS)

    for _ in range(3):
        with pytest.raises(ConfigError):
            file.authenticate(text)

    (tmp_path / "credentials.toml").write_text(whole)
    assert file.authenticate(text) is not None


def test_a_pipe_in_its_place_does_not_block(file: CredentialFile, tmp_path: Path) -> None:
    """Nobody writes into it, so that reading it by its name would wait for ever: it is no plain file."""
    text = file.add("issuer", "issuer")
    (tmp_path / "credentials.toml").unlink()
    os.mkfifo(tmp_path / "credentials.toml", 0o600)
    file.fresh_until = 0.0
    for _ in range(2):
        with pytest.raises(ConfigError, match="plain file"):
            file.authenticate(text)
