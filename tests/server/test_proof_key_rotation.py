"""The control process's care for the host's proof keys: made, rotated, vouched for, made anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth._fast._check import ReplayTable
from sessauth.clock import FixedClock
from sessauth.crypto.keys import KeyStatus, VerifierKeys
from sessauth.errors import ServerError, StateError
from sessauth.model.change import add_key, set_key_status
from sessauth.server.keys.issuer_keyring import KeyRing, ProofKeyRotator
from sessauth.server.sections import ProofSettings
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.host.proof_keys import HostProofKeys, keys_path, replay_path
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW

MAP = 16 << 20
SETTINGS = ProofSettings(key_lifetime_ms=600_000, replay_slots=256)
HALF = SETTINGS.key_lifetime_ms // 2
LEAD = layout.PROOF_KEY_LEAD_MS


@dataclass
class Host:
    """A state with its writer, a key folder, and what keeps the proof keys."""

    state_dir: Path
    clock: FixedClock
    log: StateWriter
    keyring: KeyRing
    count: int = 0

    def keeper(self, settings: ProofSettings = SETTINGS) -> ProofKeyRotator:
        """A keeper as a control process that starts now has it."""
        return ProofKeyRotator(self.state_dir, self.log, self.keyring.sign_proof_key, settings)

    def issuer(self) -> bytes:
        """Make an issuer key of the service, active; gives its id."""
        self.count += 1
        key = self.keyring.make(f"key-{self.count}")
        self.log.submit(add_key(f"k{self.count}", key.public_key, status=KeyStatus.ACTIVE)).result(10)
        return key.key_id

    def move(self, key_id: bytes, status: KeyStatus) -> None:
        """Change the status of an issuer key."""
        self.count += 1
        self.log.submit(set_key_status(f"m{self.count}", key_id, status)).result(10).raise_if_rejected()

    def published(self, keeper: ProofKeyRotator) -> VerifierKeys:
        """The keys as a holder believes them who has the service's key records."""
        return VerifierKeys(keeper.signed(), self.log.keys(), now_ms=self.clock.now_ms())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host that was never served."""
    (tmp_path / "keys").mkdir(mode=0o700)
    clock = FixedClock(NOW)
    with StateWriter.open(tmp_path / "state", create=True, map_size=MAP, clock=clock) as log:
        yield Host(tmp_path / "state", clock, log, KeyRing(tmp_path / "keys"))


def test_a_first_start_makes_keys_and_table(host: Host) -> None:
    """One rotation makes missing keys and table, and proofs count from that moment on."""
    host.keeper().rotate()

    found = HostProofKeys.read(host.state_dir)
    table = ReplayTable.open(replay_path(host.state_dir))
    assert found.incarnation == host.log.head().incarnation
    assert found.counting(NOW) == found.keys
    assert (table.slots, table.made_at_ms) == (256, NOW)


def test_a_restart_keeps_what_counts(host: Host) -> None:
    """Keys, id and the memory of used proofs live on, and nothing is written again."""
    host.keeper().rotate()
    before = (
        HostProofKeys.read(host.state_dir),
        *map(os.stat, (keys_path(host.state_dir), replay_path(host.state_dir))),
    )
    host.clock.advance(1000)
    host.keeper().rotate()

    after = (
        HostProofKeys.read(host.state_dir),
        *map(os.stat, (keys_path(host.state_dir), replay_path(host.state_dir))),
    )
    assert after[0] == before[0]
    assert [each.st_ino for each in after[1:]] == [each.st_ino for each in before[1:]]


def test_a_rotation_keeps_both_keys_listed(host: Host) -> None:
    """The new key is listed once it counts, first; the one before as long as it counts."""
    host.issuer()
    keeper = host.keeper()
    keeper.rotate()
    first = host.published(keeper).current(host.clock.now_ms())
    host.clock.advance(HALF)
    keeper.rotate()
    lists = [list(host.published(keeper))]
    for step in (LEAD, HALF - LEAD - 1, 1):
        host.clock.advance(step)
        lists.append(list(host.published(keeper)))

    new = lists[1][0]
    assert first is not None and new != first
    assert lists == [[first], [new, first], [new, first], [new]]


def test_a_key_is_vouched_for_by_a_key_of_the_service(host: Host) -> None:
    """A signature stays when its key retires, and is made anew, by the newest, once it is distrusted."""
    old = host.issuer()
    keeper = host.keeper()
    keeper.rotate()
    first = keeper.signed()
    host.clock.advance(1)
    new = host.issuer()
    assert keeper.signed() == first
    host.move(old, KeyStatus.RETIRED)
    assert keeper.signed() == first
    host.move(old, KeyStatus.DISTRUSTED)
    again = keeper.signed()

    assert [key.issuer_key_id for key in first] == [old]
    assert [(key.issuer_key_id, key.payload) for key in again] == [(new, first[0].payload)]
    assert len(host.published(keeper)) == 1


def test_without_an_issuer_key_nothing_is_listed(host: Host) -> None:
    """The refusal says what is missing; a key that nobody vouches for is never given out."""
    keeper = host.keeper()
    with pytest.raises(ServerError) as early:
        keeper.signed()
    keeper.rotate()
    with pytest.raises(ServerError) as unsigned:
        keeper.signed()

    assert (early.value.reason, unsigned.value.reason) == ("NOT_LIVE", "NO_ISSUER_KEY")


def test_a_restored_state_gets_a_new_host(host: Host, tmp_path: Path) -> None:
    """A restore changes id and keys, so that no proof made before counts."""
    host.keeper().rotate()
    before = HostProofKeys.read(host.state_dir)
    backup_dir = tmp_path / "backup"
    host.log.close()
    backup(host.state_dir, backup_dir)
    restore(backup_dir, host.state_dir, clock=host.clock)
    with StateWriter.open(host.state_dir, clock=host.clock) as log:
        ProofKeyRotator(host.state_dir, log, host.keyring.sign_proof_key, SETTINGS).rotate()
        after = HostProofKeys.read(host.state_dir)
        assert after.incarnation == log.head().incarnation

    assert after.verifier_id != before.verifier_id
    assert {key.key_id for key in after.keys}.isdisjoint(key.key_id for key in before.keys)


def test_a_file_that_was_removed_is_written_again(host: Host) -> None:
    """The same keys: nothing that holders were told is taken back."""
    keeper = host.keeper()
    keeper.rotate()
    before = HostProofKeys.read(host.state_dir)
    keys_path(host.state_dir).unlink()
    keeper.rotate()

    assert HostProofKeys.read(host.state_dir) == before


def test_damaged_keys_are_made_anew(host: Host) -> None:
    """The id changes too: proofs for the old keys no longer count."""
    host.keeper().rotate()
    before = HostProofKeys.read(host.state_dir)
    keys_path(host.state_dir).write_text("{}")
    host.keeper().rotate()

    assert HostProofKeys.read(host.state_dir).verifier_id != before.verifier_id


def test_keys_that_others_may_read_are_not_used(host: Host) -> None:
    """They are neither served nor silently replaced: an operator has to look."""
    host.keeper().rotate()
    keys_path(host.state_dir).chmod(0o644)

    with pytest.raises(StateError, match="chmod"):
        host.keeper().rotate()


@pytest.mark.parametrize("damage", ["cut", "gone", "moved", "copied", "other size"])
def test_a_table_that_can_not_serve_is_replaced(host: Host, damage: str) -> None:
    """A new one counts only proofs that no earlier one can have allowed."""
    keeper = host.keeper()
    keeper.rotate()
    path = replay_path(host.state_dir)
    settings = SETTINGS
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "gone":
        path.unlink()
    elif damage == "moved":
        path.rename(path.with_name("elsewhere"))
    elif damage == "copied":
        # As a restore does it that knows nothing of tables: what was used since the copy is not in it.
        shutil.copy2(path, path.with_name("copy"))
        os.link(path, path.with_name("another name"))
        path.with_name("copy").rename(path)
    else:
        settings = ProofSettings(SETTINGS.key_lifetime_ms, 512)
    host.clock.advance(1000)
    (keeper if damage != "other size" else host.keeper(settings)).rotate()

    table = ReplayTable.open(path)
    assert table.slots == settings.replay_slots
    assert table.made_at_ms == NOW + 1000 + 31_000


def test_a_table_from_a_wrong_clock_is_replaced(host: Host) -> None:
    """One that counts from far ahead would keep all proofs away until then."""
    host.keeper().rotate()
    ReplayTable.create(replay_path(host.state_dir), 256, NOW + 10 * 86_400_000)
    host.keeper().rotate()

    assert ReplayTable.open(replay_path(host.state_dir)).made_at_ms == NOW + 31_000


def test_a_table_that_a_wrong_clock_used_is_replaced(host: Host) -> None:
    """Time never goes back in a table, so one that was used far ahead would refuse all proofs until then."""
    host.keeper().rotate()
    far = NOW + 10 * 86_400_000
    ReplayTable.open(replay_path(host.state_dir)).insert(bytes(64), bytes(16), bytes(32), far, far)
    assert ReplayTable.open(replay_path(host.state_dir)).latest_ms == far
    host.keeper().rotate()

    assert ReplayTable.open(replay_path(host.state_dir)).latest_ms == 0


def test_what_a_wrong_clock_allowed_does_not_count_once_its_time_comes(host: Host) -> None:
    """The table that knew of it is gone, so the keys that it was proven for go as well, and the id."""
    host.keeper().rotate()
    before = HostProofKeys.read(host.state_dir)
    soon = NOW + HALF // 2
    ReplayTable.open(replay_path(host.state_dir)).insert(bytes(64), bytes(16), bytes(32), soon, soon)
    host.keeper().rotate()
    after = HostProofKeys.read(host.state_dir)

    assert after.verifier_id != before.verifier_id
    assert {key.key_id for key in after.keys}.isdisjoint(key.key_id for key in before.keys)
    host.keeper().rotate()
    assert HostProofKeys.read(host.state_dir) == after


@pytest.mark.parametrize("lost", [False, True])
def test_a_new_table_counts_from_the_latest_use_of_the_one_before(host: Host, lost: bool) -> None:
    """A clock that was set back a little brings nothing back that was allowed before."""
    keeper = host.keeper()
    keeper.rotate()
    path, used = replay_path(host.state_dir), NOW + 20_000
    ReplayTable.open(path).insert(bytes(64), bytes(16), bytes(32), used, used)
    keeper.rotate()
    if lost:
        path.unlink()
        keeper.rotate()
    else:
        host.keeper(ProofSettings(SETTINGS.key_lifetime_ms, 512)).rotate()

    assert ReplayTable.open(path).made_at_ms == used + 31_000


def test_a_suspect_clock_makes_no_key(host: Host) -> None:
    """While the wall clock is not believed the keys that are there stay."""
    keeper = host.keeper()
    keeper.rotate()
    before = HostProofKeys.read(host.state_dir)
    host.clock.step(10 * HALF)

    with pytest.raises(StateError, match="clock"):
        keeper.rotate()
    assert HostProofKeys.read(host.state_dir) == before
