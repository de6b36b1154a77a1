"""Makes and rotates the host's proof keys, and vouches for them: the control process's part of proofs."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from .._fast.replay import ReplayTable, TableError
from ..errors import StateUnusable
from ..limits import CLOCK_STEP_MS, PROOF_WINDOW_MS
from ..record import KeyRecord, KeyStatus
from ..state.lmdb_log import StateWriter
from ..state.proof_keys import HostKey, HostKeys, keys_path, replay_path
from ..verifier_key import SignedVerifierKey, VerifierKey
from .config import ProofSettings
from .keyring import KeyRing
from .log import event
from .status import refused

_STANDING: Final = (KeyStatus.ACTIVE, KeyStatus.RETIRED)


class HostKeyKeeper:
    """Keeps ``proof/`` of the state folder as it should be. The control process has one."""

    def __init__(self, state_dir: Path, log: StateWriter, keyring: KeyRing, settings: ProofSettings) -> None:
        """Work on ``state_dir``, which ``log`` writes; sign with the keys of ``keyring``."""
        self._state_dir = state_dir
        self._log = log
        self._keyring = keyring
        self._settings = settings
        self._lock = threading.Lock()
        self._host: HostKeys | None = None
        self._table: ReplayTable | None = None
        self._signed: dict[bytes, SignedVerifierKey] = {}

    def tend(self) -> None:
        """Make what is missing and rotate what is due; called once a second.

        Raises StateError while the wall clock is not believed (a key made then might count at a wrong time),
        StateUnusable for a file that others may read, OSError or TableError where one can't be written. What
        is there stays then.
        """
        now_ms = self._log.now_ms()
        with self._lock:
            incarnation = self._log.head().incarnation
            host = self._host or self._found()
            fresh = host is None or host.incarnation != incarnation
            if host is None or fresh:
                due = HostKeys.made(incarnation, now_ms, self._settings.key_lifetime_ms)
            else:
                due = host.rotated(now_ms, self._settings.key_lifetime_ms)
            if due is not host or not keys_path(self._state_dir).exists():
                due.write(self._state_dir)
                event(logging.INFO, "proof_keys_made", verifier_id=due.verifier_id.hex(), keys=len(due.keys))
            self._host = due
            self._tend_table(now_ms, proofs_before=not fresh)

    def _tend_table(self, now_ms: int, *, proofs_before: bool) -> None:
        """Open the replay table, or put a new one in the place of one that can't serve."""
        path, slots = replay_path(self._state_dir), self._settings.replay_slots
        if self._table is None:
            try:
                self._table = ReplayTable.open(path)
            except TableError as error:
                if path.exists():
                    event(logging.WARNING, "replay_table_unusable", error=str(error))
        table = self._table
        # One made or used in the far future is from a wrong clock: it would keep all proofs away until then.
        latest_ms = now_ms + PROOF_WINDOW_MS + CLOCK_STEP_MS
        if (
            table is None
            or not table.intact
            or table.slots != slots
            or max(table.made_at_ms, table.latest_ms) > latest_ms
        ):
            self._table = ReplayTable.create(path, slots, now_ms, proofs_before=proofs_before)
            event(logging.INFO, "replay_table_made", slots=slots, from_ms=self._table.made_at_ms)

    def signed(self) -> list[SignedVerifierKey]:
        """Return the keys that count now, the newest first, each vouched for by an issuer key that stands.

        Raises ServerError NO_ISSUER_KEY if one is to be signed and the service has no active key here,
        NOT_LIVE if no key counts.
        """
        now_ms = self._log.now_ms()
        records = {record.id: record for record in self._log.keys()}
        with self._lock:
            host = self._host
            counting = host.counting(now_ms) if host is not None else ()
            if host is None or not counting:
                raise refused("NOT_LIVE", "this host has no proof key that counts; its log says why")
            signed = {key.key_id: self._vouched(host, key, records) for key in counting}
            self._signed = signed
        return list(signed.values())

    def _vouched(self, host: HostKeys, key: HostKey, records: dict[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the signature that is known, unless its issuer key no longer stands; else a new one."""
        known = self._signed.get(key.key_id)
        if known is not None:
            record = records.get(known.issuer_key_id)
            if record is not None and record.status in _STANDING:
                return known
        issuer = self._keyring.newest_active(records.values())
        if issuer is None:
            raise refused("NO_ISSUER_KEY", "no active issuer key of the service is here to sign with")
        cluster_id = self._log.head().cluster_id
        public = VerifierKey(
            host.verifier_id, key.public_key, key.not_before_ms, key.expires_at_ms, cluster_id
        )
        return public.signed_by(issuer)

    def _found(self) -> HostKeys | None:
        """Return the keys in the folder; None where new ones are to be made."""
        try:
            return HostKeys.read(self._state_dir)
        except StateUnusable as error:
            if error.problem == "MISSING":
                return None
            if error.problem != "CORRUPT":
                raise
            event(logging.WARNING, "proof_keys_unreadable", error=str(error))
            return None
