"""The secrets of a host for proofs: their file, their rotation, and who is problems of them."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast._check import ProofKeys, ReplayTable
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.host.folder import make_folder
from sessauth.state.host.proof_keys import HostProofKeys, ProofReader, keys_path, replay_path
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW

INCARNATION = b"i" * 16
LIFETIME = 3_600_000
HALF = LIFETIME // 2
LEAD = layout.PROOF_KEY_LEAD_MS


@dataclass
class Taker:
    """A checker, as far as a reader needs one."""

    proofs: ProofKeys | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a host's keys and a replay table."""
    HostProofKeys.generate(INCARNATION, NOW, LIFETIME).write(tmp_path)
    ReplayTable.create(replay_path(tmp_path), 256, NOW)
    return tmp_path


def test_keys_read_back_as_they_were_written(tmp_path: Path) -> None:
    """Both keys with their times, in a file of 0640 in a folder of 0750, whatever the umask."""
    made = HostProofKeys.generate(INCARNATION, NOW, LIFETIME).rotated(NOW + HALF, LIFETIME)
    before = os.umask(0o077)
    try:
        made.write(tmp_path)
    finally:
        os.umask(before)

    read = HostProofKeys.read(tmp_path)
    assert read == made and len(read.keys) == 2
    assert stat.S_IMODE(keys_path(tmp_path).stat().st_mode) == 0o640
    assert stat.S_IMODE(keys_path(tmp_path).parent.stat().st_mode) == 0o750


def test_two_hosts_have_nothing_in_common() -> None:
    """Id and key are random."""
    a, b = (HostProofKeys.generate(INCARNATION, NOW, LIFETIME) for _ in range(2))

    assert a.verifier_id != b.verifier_id
    assert a.keys[0].public_key != b.keys[0].public_key


def test_no_repr_shows_a_secret() -> None:
    """Neither of a key nor of what holds it."""
    made = HostProofKeys.generate(INCARNATION, NOW, LIFETIME)
    secret = made.keys[0].secret

    for shown in (repr(made), repr(made.keys[0]), str(made)):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown


def test_a_young_key_stays() -> None:
    """Until half its life is over the very same keys are due."""
    made = HostProofKeys.generate(INCARNATION, NOW, LIFETIME)

    assert made.rotated(NOW, LIFETIME) is made
    assert made.rotated(NOW + HALF - 1, LIFETIME) is made


def test_a_rotation_keeps_the_key_before() -> None:
    """The new key begins a little later, the old one lives on to its end: some key counts at every moment."""
    first = HostProofKeys.generate(INCARNATION, NOW, LIFETIME)
    second = first.rotated(NOW + HALF, LIFETIME)

    assert (second.verifier_id, second.keys[1]) == (first.verifier_id, first.keys[0])
    assert second.keys[0].not_before_ms == NOW + HALF + LEAD
    assert second.counting(NOW + HALF) == (first.keys[0],)
    assert second.counting(NOW + HALF + LEAD) == second.keys
    assert second.counting(NOW + LIFETIME - 1) == second.keys
    assert second.counting(NOW + LIFETIME) == second.keys[:1]


def test_no_rotation_drops_a_key_that_counts() -> None:
    """Looked at every second for five lives: a key goes only once it is over, and there are two at most."""
    keys, step = HostProofKeys.generate(INCARNATION, NOW, LIFETIME), 1000
    for now_ms in range(NOW, NOW + 5 * LIFETIME, step):
        due = keys.rotated(now_ms, LIFETIME)
        dropped = set(keys.keys) - set(due.keys)
        assert all(now_ms >= key.expires_at_ms for key in dropped)
        assert due.counting(now_ms) and len(due.keys) <= 2
        keys = due


def test_a_host_that_was_away_gets_a_key_that_counts_at_once() -> None:
    """A new key is valid at once if no valid key is left."""
    later = HostProofKeys.generate(INCARNATION, NOW, LIFETIME).rotated(NOW + 2 * LIFETIME, LIFETIME)

    assert len(later.keys) == 1
    assert later.counting(NOW + 2 * LIFETIME) == later.keys


def test_a_key_from_a_wrong_clock_is_dropped() -> None:
    """One that begins far ahead would keep all others away until then."""
    ahead = HostProofKeys.generate(INCARNATION, NOW + 10 * LIFETIME, LIFETIME)

    due = ahead.rotated(NOW, LIFETIME)

    assert due.counting(NOW) == due.keys
    assert due.keys[0] != ahead.keys[0]


def _changed(**given: Any) -> Any:
    return lambda raw: {**raw, **given}


@pytest.mark.parametrize(
    "change",
    [
        _changed(format=2),
        _changed(verifier_id="00"),
        _changed(incarnation=None),
        _changed(keys=[]),
        lambda raw: {**raw, "keys": raw["keys"] * 3},
        lambda raw: {**raw, "keys": [{**raw["keys"][0], "secret": raw["keys"][0]["secret"][:-2]}]},
        lambda raw: {**raw, "keys": [{**raw["keys"][0], "expires_at_ms": 1.5}]},
        lambda raw: {**raw, "keys": [{**raw["keys"][0], "not_before_ms": -1}]},
        lambda raw: {key: value for key, value in raw.items() if key != "keys"},
        lambda raw: [raw],
    ],
)
def test_a_file_that_was_changed_is_refused_and_not_shown(folder: Path, change: Any) -> None:
    """CORRUPT, by name, with nothing of what stands in it."""
    path = keys_path(folder)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(change(raw)))

    with pytest.raises(StateUnusable) as caught:
        HostProofKeys.read(folder)
    assert caught.value.problem == "CORRUPT"
    assert str(path) in str(caught.value)
    assert raw["keys"][0]["secret"][:16] not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_files_that_others_can_read_are_refused(folder: Path) -> None:
    """The mode of the opened file decides; a link and a pipe are refused."""
    path = keys_path(folder)
    problems = []
    for mode in (0o644, 0o660, 0o641):
        path.chmod(mode)
        with pytest.raises(StateUnusable) as caught:
            HostProofKeys.read(folder)
        problems.append(caught.value.problem)
    path.rename(folder / "elsewhere")
    (folder / "elsewhere").chmod(0o640)
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(StateUnusable):
        HostProofKeys.read(folder)
    path.unlink()
    os.mkfifo(path, 0o640)
    with pytest.raises(StateUnusable) as caught:
        HostProofKeys.read(folder)

    assert [*problems, caught.value.problem] == ["WRONG_MODE"] * 3 + ["FOREIGN"]


def test_a_reader_gives_what_the_folder_has(folder: Path) -> None:
    """The checker gets the host's keys and table, and loses them when the reader is closed."""
    taker = Taker()
    reader = ProofReader(folder, taker)
    host = HostProofKeys.read(folder)

    assert reader.problem == ""
    assert taker.proofs is not None
    assert taker.proofs.verifier_id == host.verifier_id
    assert taker.proofs.key_ids == tuple(key.key_id for key in host.keys)
    reader.close()
    assert taker.proofs is None


def test_a_reader_notices_what_was_replaced_and_only_that(folder: Path) -> None:
    """A rotation, and a new replay table, are taken at the next look; else the very same object stays."""
    taker = Taker()
    reader = ProofReader(folder, taker)
    first = taker.proofs
    reader.refresh()
    assert taker.proofs is first
    HostProofKeys.read(folder).rotated(NOW + HALF, LIFETIME).write(folder)
    reader.refresh()
    second = taker.proofs
    assert second is not None and len(second.key_ids) == 2
    ReplayTable.create(replay_path(folder), 512, NOW)
    reader.refresh()
    assert taker.proofs is not None and taker.proofs is not second
    assert taker.proofs.replay_table is not None and taker.proofs.replay_table.slots == 512


def test_used_proofs_are_no_change_of_the_table(folder: Path) -> None:
    """A reader does not reload the table when proofs are stored in it."""
    taker = Taker()
    reader = ProofReader(folder, taker)
    first = taker.proofs
    assert first is not None and first.replay_table is not None

    assert first.replay_table.insert(bytes(64), bytes(16), bytes(32), NOW, NOW) == 1
    reader.refresh()

    assert taker.proofs is first


def test_without_the_files_a_reader_says_why_and_looks_again(folder: Path) -> None:
    """Nothing is raised; the checker is without proofs until the files are there."""
    taker = Taker()
    keys = keys_path(folder).read_bytes()
    keys_path(folder).unlink()
    problems: list[str] = []
    reader = ProofReader(folder, taker, problems.append)
    reader.refresh()
    assert taker.proofs is None and "keys" in reader.problem
    keys_path(folder).write_bytes(keys)
    keys_path(folder).chmod(0o644)
    reader.refresh()
    assert taker.proofs is None and "0644" in reader.problem
    keys_path(folder).chmod(0o640)
    reader.refresh()
    assert taker.proofs is not None and reader.problem == ""
    replay_path(folder).write_bytes(b"not a table")
    reader.refresh()
    assert taker.proofs is None and "replay" in reader.problem
    assert [any(word in each for word in ("keys", "0644", "replay")) for each in problems] == [True] * 3


def test_a_state_reader_looks_when_it_is_asked_whether_it_is_still_the_one(
    state_dir: Path, clock: FixedClock
) -> None:
    """Each files_unchanged calls the callbacks, until the reader is closed."""
    calls: list[int] = []
    StateWriter.open(state_dir, create=True, map_size=8 << 20, clock=clock).close()
    reader = StateReader.open(state_dir)
    reader.watch(lambda: calls.append(len(calls)))
    assert reader.files_unchanged() and reader.files_unchanged()
    reader.close()
    reader.files_unchanged()

    assert calls == [0, 1]


@pytest.mark.parametrize(
    ("mode", "name", "problem"),
    [
        (0o755, "", "WRONG_MODE"),
        (0o644, layout.PROOF_KEYS_FILE, "WRONG_MODE"),
        (0o666, layout.REPLAY_FILE, "WRONG_MODE"),
    ],
)
def test_preflight_refuses_secrets_that_others_can_read(
    state_dir: Path, clock: FixedClock, mode: int, name: str, problem: str
) -> None:
    """A folder or file of the proof keys that is open to others stops writer and reader, with the chmod."""
    with StateWriter.open(state_dir, create=True, map_size=8 << 20, clock=clock):
        HostProofKeys.generate(INCARNATION, NOW, LIFETIME).write(state_dir)
        ReplayTable.create(replay_path(state_dir), 256, NOW)
    (state_dir / layout.PROOF_DIR / name).chmod(mode)

    for opened in (lambda: StateWriter.open(state_dir, clock=clock), lambda: StateReader.open(state_dir)):
        with pytest.raises(StateUnusable, match="chmod") as caught:
            opened()
        assert caught.value.problem == problem


def test_preflight_does_not_ask_for_proof_keys(state_dir: Path, clock: FixedClock) -> None:
    """A state without them, or with an empty folder for them, is served; a file in its place is not."""
    with StateWriter.open(state_dir, create=True, map_size=8 << 20, clock=clock):
        pass
    StateReader.open(state_dir).close()
    make_folder(state_dir / layout.PROOF_DIR, layout.DIR_MODE)
    StateReader.open(state_dir).close()
    (state_dir / layout.PROOF_DIR).rmdir()
    (state_dir / layout.PROOF_DIR).write_text("")

    with pytest.raises(StateUnusable) as caught:
        StateReader.open(state_dir)
    assert caught.value.problem == "FOREIGN"


def test_a_first_start_that_was_cut_off_is_taken_up_again(state_dir: Path, clock: FixedClock) -> None:
    """The folder of the proof keys is no foreign thing in a state folder without data."""
    state_dir.mkdir(mode=0o750)
    make_folder(state_dir / layout.PROOF_DIR, layout.DIR_MODE)

    with StateWriter.open(state_dir, create=True, map_size=8 << 20, clock=clock) as writer:
        assert writer.head().revision == 0


def test_a_backup_holds_no_secret(state_dir: Path, clock: FixedClock, tmp_path: Path) -> None:
    """Neither keys nor replay table, nor the bytes of a key anywhere in it; a restore brings none."""
    with StateWriter.open(state_dir, create=True, map_size=8 << 20, clock=clock):
        HostProofKeys.generate(INCARNATION, NOW, LIFETIME).write(state_dir)
        ReplayTable.create(replay_path(state_dir), 256, NOW)
    secret = HostProofKeys.read(state_dir).keys[0].secret
    backup(state_dir, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new", map_size=8 << 20, clock=clock)

    copied = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert sorted(path.name for path in copied) == ["data.mdb", "manifest.json"]
    for path in copied:
        data = path.read_bytes()
        assert secret not in data and secret.hex().encode() not in data
    assert not (tmp_path / "new" / layout.PROOF_DIR).exists()


def test_the_incarnation_stays_through_a_rotation() -> None:
    """A rotation keeps the incarnation, by which a restored state is detected."""
    made = HostProofKeys.generate(INCARNATION, NOW, LIFETIME)

    assert made.rotated(NOW + HALF, LIFETIME).incarnation == INCARNATION
    assert replace(made, incarnation=b"j" * 16).rotated(NOW + HALF, LIFETIME).incarnation == b"j" * 16
