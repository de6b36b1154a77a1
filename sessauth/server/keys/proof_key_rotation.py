"""Makes, rotates and signs the host's proof keys: the control process's part of proofs."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from ..._fast._check import ReplayTable, TableError
from ...crypto.issuer_key import KeyRecord, KeyStatus
from ...crypto.verifier_key import SignedVerifierKey, VerifierKey
from ...errors import ServerError, StateUnusable
from ...limits import CLOCK_STEP_MS, PROOF_WINDOW_MS
from ...state.host.proof_keys import HostProofKey, HostProofKeys, keys_path, replay_path
from ...state.writer.state_writer import StateWriter
from ..config.sections import ProofSettings
from ..log import event
from ..status import refused
from .proof_key_signer import ProofKeySigner

_VALID: Final = (KeyStatus.ACTIVE, KeyStatus.RETIRED)


class ProofKeyRotator:
    """Maintains ``proof/`` of the state folder. The control process has one."""

    def __init__(
        self, state_dir: Path, log: StateWriter, signer: ProofKeySigner, settings: ProofSettings
    ) -> None:
        """Work on ``state_dir``, which ``log`` writes; ``signer`` signs the public halves."""
        self._state_dir = state_dir
        self._log = log
        self._signer = signer
        self._settings = settings
        self._lock = threading.Lock()
        self._host: HostProofKeys | None = None
        self._table: ReplayTable | None = None
        # The latest use of the table.
        self._latest_ms = 0
        self._signed: dict[bytes, SignedVerifierKey] = {}

    def rotate(self) -> None:
        """Make missing keys and rotate those that are due; called once a second.

        Raises StateError while the wall clock is suspect (a key made then might count at a wrong time),
        StateUnusable for a file that others may read, OSError or TableError if one can't be written. Existing
        keys and tables stay then.
        """
        now_ms = self._log.now_ms()
        with self._lock:
            incarnation = self._log.head().incarnation
            host = self._host or self._read_keys()
            table = self._open_table()
            ahead = table is not None and _is_ahead(table, now_ms)
            # A table of the future is dropped with its nonces, so proofs of that time must never count.
            fresh = host is None or host.incarnation != incarnation or ahead
            if host is None or fresh:
                due = HostProofKeys.generate(incarnation, now_ms, self._settings.key_lifetime_ms)
            else:
                due = host.rotated(now_ms, self._settings.key_lifetime_ms)
            if due is not host or not keys_path(self._state_dir).exists():
                due.write(self._state_dir)
                event(logging.INFO, "proof_keys_made", verifier_id=due.verifier_id.hex(), keys=len(due.keys))
            self._host = due
            if table is None or ahead or not table.intact or table.slots != self._settings.replay_slots:
                self._replace_table(now_ms, fresh=fresh)
            else:
                self._latest_ms = max(self._latest_ms, table.latest_ms)

    def _open_table(self) -> ReplayTable | None:
        """Return the replay table; None if there is none that can serve."""
        path = replay_path(self._state_dir)
        if self._table is None:
            try:
                self._table = ReplayTable.open(path)
                self._latest_ms = self._table.latest_ms
            except TableError as error:
                if path.exists():
                    event(logging.WARNING, "replay_table_unusable", error=str(error))
        return self._table

    def _replace_table(self, now_ms: int, *, fresh: bool) -> None:
        """Replace the replay table; ``fresh``: the keys are new, so no proof was made for them."""
        path, slots = replay_path(self._state_dir), self._settings.replay_slots
        # The clock may have been set back a little since the table was used.
        from_ms = now_ms if fresh else max(now_ms, self._latest_ms)
        self._table = ReplayTable.create(path, slots, from_ms, proofs_before=not fresh)
        self._latest_ms = 0
        event(logging.INFO, "replay_table_made", slots=slots, from_ms=self._table.made_at_ms)

    def signed(self) -> list[SignedVerifierKey]:
        """Return the valid keys, the newest first, each signed by a valid issuer key.

        Without one that can't be signed now. Raises ServerError NO_ISSUER_KEY if that leaves none, NOT_LIVE
        if no key is valid.
        """
        now_ms = self._log.now_ms()
        records = {record.id: record for record in self._log.keys()}
        with self._lock:
            host = self._host
            counting = host.counting(now_ms) if host is not None else ()
            if host is None or not counting:
                raise refused("NOT_LIVE", "this host has no proof key that counts; its log says why")
            signed: dict[bytes, SignedVerifierKey] = {}
            problem: ServerError | None = None
            for key in counting:
                try:
                    signed[key.key_id] = self._sign(host, key, records)
                except ServerError as error:
                    problem = problem or error
            if problem is not None and not signed:
                raise problem
            self._signed = signed
        return list(signed.values())

    def _sign(
        self, host: HostProofKeys, key: HostProofKey, records: dict[bytes, KeyRecord]
    ) -> SignedVerifierKey:
        """Return the cached signature if its issuer key is still valid, else a new one."""
        known = self._signed.get(key.key_id)
        if known is not None:
            record = records.get(known.issuer_key_id)
            if record is not None and record.status in _VALID:
                return known
        cluster_id = self._log.head().cluster_id
        public = VerifierKey(
            host.verifier_id, key.public_key, key.not_before_ms, key.expires_at_ms, cluster_id
        )
        return self._signer.sign(public, records)

    def _read_keys(self) -> HostProofKeys | None:
        """Return the keys in the folder; None if new ones are to be made."""
        try:
            return HostProofKeys.read(self._state_dir)
        except StateUnusable as error:
            if error.problem == "MISSING":
                return None
            if error.problem != "CORRUPT":
                raise
            event(logging.WARNING, "proof_keys_unreadable", error=str(error))
            return None


def _is_ahead(table: ReplayTable, now_ms: int) -> bool:
    """Return True if it was made or used in the far future: it would refuse all proofs until then."""
    return max(table.made_at_ms, table.latest_ms) > now_ms + PROOF_WINDOW_MS + CLOCK_STEP_MS
