"""A host's callers by the rows of its folder and by its own file: what is read, when, and which counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import ConfigError, StateError
from sessauth.model.change import add_credential, remove_credential
from sessauth.server.config import from_dict, load
from sessauth.server.keys.credentials import CarriedCredentials, CredentialFile, Identities, new_credential
from sessauth.state import layout
from sessauth.state.lmdb.cluster_rows import credential_key
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening


class Folder:
    """A folder with a writer, as any process of its host reads it."""

    def __init__(self, path: Path) -> None:
        """Make it."""
        self.path = path
        self.writer = StateWriter.open(path, create=True, map_size=8 << 20, clock=FixedClock(NOW))
        self.file = CredentialFile(path / "credentials.toml")
        self.callers = CarriedCredentials(path / "credentials.toml", self.writer.source())
        self._count = 0

    def add(self, name: str, role: str = "gateway") -> str:
        """Add a row; return the text of the credential."""
        text, secret_hash = new_credential(name)
        self._do(add_credential(self._id(), name, role, secret_hash))
        return text

    def remove(self, name: str) -> None:
        """Remove a row."""
        self._do(remove_credential(self._id(), name))

    def open_session(self) -> None:
        """Commit what has nothing to do with callers."""
        self._do(opening(self._id()))

    def role(self, text: str) -> str:
        """Return the role of an accepted credential; empty: it is not accepted."""
        found = self.callers.authenticate(text)
        return "" if found is None else found.role

    def _do(self, change: object) -> None:
        self.writer.submit(change).result().raise_if_rejected()  # type: ignore[arg-type]

    def _id(self) -> str:
        self._count += 1
        return f"i{self._count}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An empty folder."""
    made = Folder(tmp_path / "state")
    yield made
    made.writer.close()


def test_a_removed_caller_is_refused_at_once(folder: Folder) -> None:
    """It was accepted before, and what was cached of it is forgotten with the commit."""
    ann, bo = folder.add("ann"), folder.add("bo", "issuer")
    assert (folder.role(ann), folder.role(bo)) == ("gateway", "issuer")
    before = folder.callers.loaded
    assert folder.callers.accepted_before(ann.encode()) is not None and folder.callers.is_current()

    folder.remove("ann")

    assert not folder.callers.is_current()
    assert (folder.role(ann), folder.role(bo)) == ("", "issuer")
    assert folder.callers.loaded is not before
    assert folder.callers.accepted_before(ann.encode()) is None


def test_a_call_reads_no_row_while_nothing_changed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a commit not even a transaction begins; with another one the mark alone is read."""
    ann = folder.add("ann")
    assert folder.role(ann) == "gateway"
    source, loaded = folder.writer.source(), folder.callers.loaded
    reads: list[str] = []
    reader = folder.callers._reader
    assert reader._source is source or reader._source.env is source.env
    begin = reader._source.begin

    def counted(*given: object, **more: object) -> object:
        reads.append("begin")
        return begin(*given, **more)

    monkeypatch.setattr(reader._source, "begin", counted)
    for _ in range(100):
        assert folder.callers.is_current() and folder.callers.accepted_before(ann.encode()) is not None
    assert not reads
    folder.open_session()
    reads.clear()
    for _ in range(100):
        assert folder.callers.is_current() and folder.callers.accepted_before(ann.encode()) is not None
    assert reads == ["begin"] and folder.callers.loaded is loaded


def test_callers_stay_accepted_though_the_host_has_no_file(folder: Folder) -> None:
    """The file is looked for every 200 ms; that it is still not there replaces nothing."""
    ann = folder.add("ann")
    assert folder.role(ann) == "gateway" and not folder.file.file.current().entries
    loaded = folder.callers.loaded

    folder.callers.fresh_until = 0.0

    assert folder.callers.current() is loaded
    assert folder.callers.accepted_before(ann.encode()) is not None


def test_an_id_that_is_ahead_of_the_rows_hides_no_removal(folder: Folder) -> None:
    """LMDB writes a commit's id into the file a moment before a transaction reads its rows."""
    ann = folder.add("ann")
    assert folder.role(ann)
    reader = folder.callers._reader
    source = reader._source
    commit_id = source.commit_id
    assert commit_id is not None

    class Ahead:
        number = commit_id.number + 1

    # The page shows the removal's id, and the transaction still reads the rows before it.
    source.commit_id = Ahead()  # type: ignore[assignment]
    assert folder.role(ann) and folder.callers.is_current()
    source.commit_id = commit_id
    folder.remove("ann")

    assert commit_id.number == Ahead.number
    assert not folder.role(ann)


def test_another_process_sees_it(folder: Folder) -> None:
    """A read-only reader of the folder, as a worker has it: in this process it has to be another folder."""
    ann = folder.add("ann")
    folder.writer.close()
    reader = StateReader.open(folder.path)
    callers = CarriedCredentials(folder.path / "credentials.toml", reader)
    assert callers.authenticate(ann) is not None

    reader.close()

    assert not callers.is_current()
    with pytest.raises(ConfigError):
        callers.authenticate(ann)
    assert callers.accepted_before(ann.encode()) is None


def test_the_clusters_caller_counts_before_one_of_the_file(folder: Folder) -> None:
    """One name is one caller: the file's entry is refused while there is a row of the name."""
    local = folder.file.add("ann", "operator")
    other = folder.file.add("rescue", "operator")
    assert (folder.role(local), folder.role(other)) == ("operator", "operator")

    carried = folder.add("ann", "gateway")

    assert (folder.role(local), folder.role(carried), folder.role(other)) == ("", "gateway", "operator")
    folder.remove("ann")
    assert (folder.role(local), folder.role(carried)) == ("operator", "")


def test_a_copy_in_the_file_does_not_outlive_the_row(folder: Folder) -> None:
    """A process drops copies when it starts; entries with another secret are left alone."""
    carried = folder.add("ann")
    folder.file.include(list(folder.callers.current().entries.values()))
    other = folder.file.add("bo", "gateway")
    assert [entry.name for entry in folder.file.list()] == ["ann", "bo"]

    folder.callers.drop_copies()
    folder.remove("ann")

    assert [entry.name for entry in folder.file.list()] == ["bo"]
    assert (folder.role(carried), folder.role(other)) == ("", "gateway")


def test_a_damaged_row_lets_nobody_in(folder: Folder) -> None:
    """The file's own callers neither, until a person has looked; nobody accepted before stays accepted."""
    ann, rescue = folder.add("ann"), folder.file.add("rescue", "operator")
    assert folder.role(ann) and folder.role(rescue)

    def damage(group: Group) -> None:
        group.rows.put(layout.EVIDENCE, credential_key("ann"), b"\xff")
        group.dirty = True

    folder.writer.run(damage)
    folder.add("bo")

    for text in (ann, rescue):
        with pytest.raises(ConfigError, match="credential"):
            folder.callers.authenticate(text)
        assert folder.callers.accepted_before(text.encode()) is None


def test_the_certificate_of_a_name_that_the_cluster_has_is_refused(folder: Folder, tmp_path: Path) -> None:
    """Its entry in the settings counts again once the cluster has no such caller."""
    config = from_dict(
        {
            "home": str(tmp_path),
            "tcp": {"address": "127.0.0.1:0", "certificate": "c", "private_key": "k", "client_ca": "ca"},
            "identities": [
                {"name": name, "role": "gateway", "uri": f"spiffe://x/{name}"} for name in ("ann", "bo")
            ],
        }
    )
    identities = Identities(config, folder.callers)

    def known(name: str) -> bool:
        return identities.known().principal_of([f"spiffe://x/{name}"], "") is not None

    assert known("ann") and known("bo")
    folder.add("ann")
    assert not known("ann") and known("bo")
    folder.remove("ann")
    assert known("ann") and known("bo")


def test_a_first_identity_of_a_name_that_the_cluster_has_is_refused_at_once(
    folder: Folder, tmp_path: Path
) -> None:
    """It comes by the reload of settings that had no identities before."""
    home = tmp_path / "home"
    home.mkdir()
    settings = home / "sessauth.toml"
    tcp = '[tcp]\naddress = "127.0.0.1:0"\ncertificate = "c"\nprivate_key = "k"\nclient_ca = "ca"\n'
    settings.write_text(tcp)
    identities = Identities(load(home, {}), folder.callers)
    folder.add("ann")
    entry = '[[identities]]\nname = "ann"\nrole = "gateway"\nuri = "spiffe://x/ann"\n'
    settings.write_text(tcp + entry)

    assert identities.known().principal_of(["spiffe://x/ann"], "") is None


def test_a_closed_folder_accepts_nobody(folder: Folder) -> None:
    """Nothing of it was accepted for good."""
    ann = folder.add("ann")
    assert folder.role(ann)
    folder.writer.close()
    assert not folder.callers.is_current()
    with pytest.raises((ConfigError, StateError)):
        folder.callers.authenticate(ann)
